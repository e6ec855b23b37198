"""The two players of the DCGAN: generator and discriminator.

Source: Radford et al. 2016 (1511.06434); arXiv 2001.10883, section 3 and its appendix table. Images are (-1, 1) here.
"""

from __future__ import annotations

from math import log2
from typing import Literal

import torch
from torch import Tensor, nn

from anomalib_xray.networks.layers import ProductConvTranspose2d
from anomalib_xray.networks.minibatch_discrimination import MinibatchDiscrimination
from anomalib_xray.networks.sagan import SMALLEST, maybe_spectral

SLOPE = 0.01
"""Slope of leaky ReLU below 0."""

CHANNELS_LAST = 32
"""Side from which on the generator's maps are computed with channels last: faster with few channels on large maps."""

Norm = Literal["none", "batch"]


def doubling_channels(image_size: int, width: int) -> list[int]:
    """Channels of the feature maps from half the image's side down to 4 x 4: each level has twice as many."""
    return [width * 2**level for level in range(int(log2(image_size // SMALLEST)))]


class Generator(nn.Module):
    """Code to image: 4 x 4 transposed convolutions and leaky ReLU.

    Args:
        image_size: Side S of the images.
        width: Channels of the last level, the one of half the image's side (16 as published, 1024 at 4 x 4 then).
        latent_size: Length Z of the code.
        norm: Whether levels are normalised over the ``batch`` (Radford et al. 2016) or ``none`` is (as published).
        spectral: Whether convolutions are spectrally normalised.
    """

    def __init__(
        self, image_size: int, width: int, latent_size: int, norm: Norm = "none", spectral: bool = True
    ) -> None:
        super().__init__()
        channels = doubling_channels(image_size, width)[::-1]
        layers: list[nn.Module] = []
        for level, (inputs, outputs) in enumerate(zip([latent_size, *channels], channels, strict=False)):
            stride, padding = (1, 0) if level == 0 else (2, 1)
            kind = ProductConvTranspose2d if level <= 1 else nn.ConvTranspose2d  # of a vector, and of 4 x 4 places
            layers.append(maybe_spectral(kind(inputs, outputs, 4, stride, padding), spectral))
            if norm == "batch":
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.LeakyReLU(SLOPE, inplace=True))
        layers += [maybe_spectral(nn.ConvTranspose2d(channels[-1], 1, 4, 2, 1), spectral), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        for level, layer in enumerate(layer for layer in layers if isinstance(layer, nn.ConvTranspose2d)):
            if SMALLEST * 2**level >= CHANNELS_LAST:
                layer.to(memory_format=torch.channels_last)

    def forward(self, code: Tensor) -> Tensor:
        """Generates ``(N, 1, S, S)`` in (-1, 1) from ``(N, Z)``."""
        image: Tensor = self.layers(code[:, :, None, None])
        return image


class Discriminator(nn.Module):
    """Tells real images from generated ones.

    4 x 4 convolutions of stride 2 down to 4 x 4, one more to a vector, minibatch discrimination, a linear layer. With
    the published width the linear layer has 528 inputs at 512 pixels, 512 features and 16 outputs of minibatch
    discrimination (64 for four images' features glued together in the published code).

    Args:
        image_size: Side S of the images.
        width: Channels of the first level (4 as published); the vector is twice as long as the last level is deep.
        minibatch_discrimination: Whether images are compared with others of their batch.
        spectral: Whether convolutions are spectrally normalised.
    """

    kernels = 16

    def __init__(
        self, image_size: int, width: int, minibatch_discrimination: bool = True, spectral: bool = True
    ) -> None:
        super().__init__()
        self.channels = doubling_channels(image_size, width)
        self.levels = nn.ModuleList(
            nn.Sequential(maybe_spectral(nn.Conv2d(inputs, outputs, 4, 2, 1), spectral), nn.LeakyReLU(SLOPE))
            for inputs, outputs in zip([1, *self.channels], self.channels, strict=False)
        )
        last = self.channels[-1]
        self.vector = nn.Sequential(
            maybe_spectral(nn.Conv2d(last, 2 * last, SMALLEST), spectral), nn.LeakyReLU(SLOPE), nn.Flatten()
        )
        self.minibatch = MinibatchDiscrimination(2 * last, self.kernels) if minibatch_discrimination else None
        closeness = self.kernels if minibatch_discrimination else 0
        self.head = nn.Linear(2 * last + closeness, 1)

    def forward(self, image: Tensor, remember: bool = False) -> Tensor:
        """Logits ``(N,)`` of images ``(N, 1, S, S)`` in (-1, 1), higher = more real.

        With ``remember`` they are real training images whose features evaluation may compare with.
        """
        return self.judge(self.features(image)[-1], remember)

    def features(self, image: Tensor, levels: int | None = None) -> list[Tensor]:
        """The features of the first levels, of all if left out: ``(N, width, S / 2, S / 2)`` to ``(N, C, 4, 4)``."""
        found = []
        for level in self.levels[:levels]:
            image = level(image)
            found.append(image)
        return found

    def judge(self, features: Tensor, remember: bool = False) -> Tensor:
        """Judges the features of the last level, ``(N, C, 4, 4)``; see :meth:`forward`."""
        vector: Tensor = self.vector(features)
        if self.minibatch is not None:
            if remember:
                self.minibatch.remember(vector.detach())
            vector = torch.cat([vector, self.minibatch(vector)], dim=1)
        logits: Tensor = self.head(vector).flatten()
        return logits
