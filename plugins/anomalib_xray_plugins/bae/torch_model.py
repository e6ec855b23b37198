"""Network of the bottleneck autoencoder.

Source: arXiv 2001.10883, section 3, and its appendix table of the BAE.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from anomalib_xray.scores import ReconstructionScorer, ScoredBatch

Activation = Literal["relu", "tanh"]

Output = Literal["sigmoid", "tanh"]

SKIPS = 2
"""Encoder levels, counted from the bottleneck, that the decoder sees besides the code."""


def reduction(levels: int, stride: int) -> int:
    """Ratio of the sides of image and code: all levels pool, all but the first convolve with stride."""
    return int(2 * (2 * stride) ** (levels - 1))


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation that also trains on one value per channel, such as one image's code without places.

    One value has no variance; it is normalised by the running statistics and does not change them.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Features ``(N, C, H, W)`` to the same shape."""
        if self.training and features.numel() == features.shape[1]:
            return batch_norm(features, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(features)


def make_activation(kind: Activation) -> nn.Module:
    """The activation between layers."""
    return nn.Tanh() if kind == "tanh" else nn.ReLU()


class Down(nn.Module):
    """A level of the encoder: convolution and max-pooling.

    Args:
        convolution: The convolution, with C channels out.
        pool: Whether the map is pooled 2x2.
        activate_first: Order convolution, activation, normalisation, pooling, as published for skip connections;
            otherwise convolution, pooling, normalisation, activation.
        activation: ``relu`` or ``tanh``.
    """

    def __init__(self, convolution: nn.Conv2d, pool: bool, activate_first: bool, activation: Activation) -> None:
        super().__init__()
        self.convolution = convolution
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.norm = BatchNorm(convolution.out_channels)
        self.activation = make_activation(activation)
        self.activate_first = activate_first

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features for the next level, ``(N, C, h/2, w/2)``, and for a skip connection, ``(N, C, h, w)``."""
        whole = self.convolution(features)
        if self.activate_first:
            whole = self.activation(whole)
            return self.pool(self.norm(whole)), whole
        return self.activation(self.norm(self.pool(whole))), whole


class Up(nn.Sequential):
    """A level of the decoder: transposed convolution and nearest-neighbour upsampling.

    Normalisation and activation give the same before and after copying pixels, so they come before it.

    Args:
        convolution: The transposed convolution.
        activate_first: As in :class:`Down`.
        activation: ``relu`` or ``tanh``.
    """

    def __init__(self, convolution: nn.ConvTranspose2d, activate_first: bool, activation: Activation) -> None:
        norm, act = BatchNorm(convolution.out_channels), make_activation(activation)
        super().__init__(convolution, *((act, norm) if activate_first else (norm, act)), nn.Upsample(scale_factor=2))


class BaeModel(nn.Module):
    """Autoencoder that convolves with stride and pools, down to few places or a single one.

    The arguments are settings of ``Bae``; the defaults of the first five are those of the paper.

    * 5 levels make one place of 512 x 512 pixels. A stride of 2 comes with 4 x 4 pixels, one of 1 with 3 x 3.
    * A padding of the code's 1 x 1 convolution by 1, as published, adds a border without content: 3 x 3 places of which
      one speaks.
    * Skip connections (``SkipConnection`` of the published code) are at full size, before pooling.
    * ``relu`` is the paper's activation, ``tanh`` that of the published code. Negative values of the output ``tanh``,
      which no image has, become 0 in evaluation.
    """

    def __init__(
        self,
        width: int = 16,
        latent_channels: int = 256,
        levels: int = 5,
        stride: int = 2,
        code_padding: int = 0,
        skip: bool = False,
        activation: Activation = "relu",
        output: Output = "sigmoid",
        scorer: ReconstructionScorer | None = None,
    ) -> None:
        super().__init__()
        channels = [width * 2**level for level in range(levels)]
        kernel = stride + 2  # with padding 1 it divides the side by the stride exactly
        # Without an activation in between, normalisation removes a bias.
        convolutions = [nn.Conv2d(1, width, 3, 1, 1, bias=skip)]
        convolutions += [nn.Conv2d(narrow, wide, kernel, stride, 1, bias=skip) for narrow, wide in pairwise(channels)]
        self.encoder = nn.ModuleList(Down(convolution, True, skip, activation) for convolution in convolutions)
        code = nn.Conv2d(channels[-1], latent_channels, 1, 1, code_padding, bias=skip)
        self.code = Down(code, False, skip, activation)
        transposed = [nn.ConvTranspose2d(latent_channels, channels[-1], 1, 1, code_padding, bias=skip)]
        for index, (narrow, wide) in enumerate(reversed(list(pairwise(channels)))):
            inputs = 2 * wide if skip and index < SKIPS else wide
            transposed.append(nn.ConvTranspose2d(inputs, narrow, kernel, stride, 1, bias=skip))
        self.decoder = nn.ModuleList(Up(convolution, skip, activation) for convolution in transposed)
        self.last = nn.ConvTranspose2d(width, 1, 3, 1, 1)
        self.output: nn.Module = nn.Sigmoid() if output == "sigmoid" else nn.Tanh()
        self.skip = skip
        self.scorer = scorer or ReconstructionScorer("mse_top_k", 0.03, 1.0)
        # Convolutions with few channels on large maps run faster with channels last.
        self.to(memory_format=torch.channels_last)

    def encode(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Codes ``(N, Z, h, w)`` of images ``(N, 1, S, S)`` in [0, 1], and the maps of all levels before pooling."""
        features, wholes = image.contiguous(memory_format=torch.channels_last), []
        for level in self.encoder:
            features, whole = level(features)
            wholes.append(whole)
        code, _ = self.code(features)
        return code, wholes

    def latent(self, image: Tensor) -> Tensor:
        """Codes ``(N, Z, h, w)`` of images ``(N, 1, S, S)`` in [0, 1]."""
        return self.encode(image)[0]

    def reconstruct(self, image: Tensor) -> Tensor:
        """Encodes and decodes ``(N, 1, S, S)`` in [0, 1]; from -1 on while training with the output ``tanh``."""
        features, wholes = self.encode(image)
        for index, level in enumerate(self.decoder):
            if self.skip and 1 <= index <= SKIPS:
                features = torch.cat([features, wholes[-index]], 1)
            features = level(features)
        reconstruction: Tensor = self.output(self.last(features))
        return reconstruction if self.training else reconstruction.clamp(min=0)

    def forward(self, batch: Tensor) -> Tensor | ScoredBatch:
        """Reconstructs in training, scores in evaluation; images are pre-processed, ``(N, 3, S, S)`` in [0, 1]."""
        image = batch.mean(1, keepdim=True)
        reconstruction = self.reconstruct(image)
        if self.training:
            return reconstruction
        scored: ScoredBatch = self.scorer(image, reconstruction, self.reconstruct)
        return scored
