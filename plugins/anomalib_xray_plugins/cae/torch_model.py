"""Network of the convolutional autoencoder.

Source: arXiv 2001.10883, section 3, and its appendix table of the CAE.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from anomalib_xray.scores import ReconstructionScorer, ScoredBatch

Output = Literal["sigmoid", "relu_tanh"]


def activated(convolution: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    """A convolution without bias, batch normalisation and ReLU."""
    return nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True))


def down(inputs: int, outputs: int) -> nn.Sequential:
    """Halves the size of a feature map."""
    return activated(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False))


def same(inputs: int, outputs: int) -> nn.Sequential:
    """Keeps the size of a feature map."""
    return activated(nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False))


def up(inputs: int, outputs: int) -> nn.Sequential:
    """Doubles the size of a feature map."""
    return activated(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False))


class CaeModel(nn.Module):
    """Convolutional autoencoder with a spatial bottleneck.

    Args:
        width: Channels of the first level; every level doubles them (16 as published).
        latent_channels: Channels of the bottleneck (512 as published).
        levels: Halvings between the image and the bottleneck (5 as published: 512 x 512 pixels become 16 x 16).
        output: ``sigmoid``, or ``relu_tanh`` as published, whose units can die: then a pixel stays 0 for ever.
        scorer: Computes scores and map; the default scorer if left out.
    """

    def __init__(
        self,
        width: int = 16,
        latent_channels: int = 512,
        levels: int = 5,
        output: Output = "sigmoid",
        scorer: ReconstructionScorer | None = None,
    ) -> None:
        super().__init__()
        channels = [width * 2**level for level in range(levels)]
        encoder = [same(1, width)]
        for narrow, wide in pairwise(channels):
            encoder += [down(narrow, wide), same(wide, wide)]
        self.encoder = nn.Sequential(*encoder, down(channels[-1], latent_channels))
        decoder: list[nn.Module] = [up(latent_channels, channels[-1])]
        decoder += [up(wide, narrow) for narrow, wide in reversed(list(pairwise(channels)))]
        decoder.append(nn.ConvTranspose2d(width, 1, 3, 1, 1, bias=output == "sigmoid"))
        decoder += [nn.Sigmoid()] if output == "sigmoid" else [nn.ReLU(), nn.Tanh()]
        self.decoder = nn.Sequential(*decoder)
        self.scorer = scorer or ReconstructionScorer("mse_top_k", 0.03, 1.0)
        # Convolutions with few channels on large maps run faster with channels last.
        self.to(memory_format=torch.channels_last)

    def latent(self, image: Tensor) -> Tensor:
        """Codes ``(N, Z, h, w)`` of images ``(N, 1, S, S)`` in [0, 1]."""
        code: Tensor = self.encoder(image.contiguous(memory_format=torch.channels_last))
        return code

    def reconstruct(self, image: Tensor) -> Tensor:
        """Encodes and decodes ``(N, 1, S, S)`` in [0, 1]."""
        reconstruction: Tensor = self.decoder(self.latent(image))
        return reconstruction

    def forward(self, batch: Tensor) -> Tensor | ScoredBatch:
        """Reconstructs in training, scores in evaluation; images are pre-processed, ``(N, 3, S, S)`` in [0, 1]."""
        image = batch.mean(1, keepdim=True)
        reconstruction = self.reconstruct(image)
        if self.training:
            return reconstruction
        scored: ScoredBatch = self.scorer(image, reconstruction, self.reconstruct)
        return scored
