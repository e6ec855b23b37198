"""The four players of the α-GAN: encoder, generator, discriminator and code discriminator.

Source: arXiv 2001.10883, section 3 and its appendix tables; Rosca et al. 2017 (1706.04987). Images are (-1, 1) here.
"""

from __future__ import annotations

from math import log2
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from anomalib_xray.components import MinibatchDiscrimination, SelfAttention

Latent = Literal["linear", "tanh"]

SMALLEST = 4
"""Side of the smallest feature map."""

LARGEST_ATTENTION = 64
"""Side of the largest feature map of the generator with self-attention; 128 would cost 16 times as much."""

WIDEST = 16
"""Most channels of a level, in multiples of the first level's."""


def level_channels(image_size: int, width: int) -> list[int]:
    """Channels of the feature maps from half the image's side down to 4 x 4; 64 ... 1024 at 128 pixels as published."""
    levels = int(log2(image_size // SMALLEST))
    return [width * min(2**level, WIDEST) for level in range(levels)]


def trunk(image_size: int, width: int, pooling: int) -> nn.Sequential:
    """Downward path of encoder and discriminator, (N, 1, S, S) to (N, C, 4, 4), attention on the last two levels."""
    layers: list[nn.Module] = []
    channels = level_channels(image_size, width)
    for level, (inputs, outputs) in enumerate(zip([1, *channels], channels, strict=False)):
        layers += [spectral_norm(nn.Conv2d(inputs, outputs, 4, 2, 1)), nn.LeakyReLU(0.1, inplace=True)]
        if level >= len(channels) - 2:
            layers.append(SelfAttention(outputs, pooling))
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """Image to the mean and the standard deviation of its code.

    Args:
        image_size: Side S of the images.
        width: Channels of the first level.
        latent_size: Length Z of the code.
        latent: ``linear``: mean unbounded, log-variance. ``tanh``: mean and standard deviation through tanh, as
            published; codes in (-1, 1) are then trivially told from the normal distribution.
        pooling: Pooling of keys and values in self-attention.
    """

    def __init__(self, image_size: int, width: int, latent_size: int, latent: Latent, pooling: int) -> None:
        super().__init__()
        self.trunk = trunk(image_size, width, pooling)
        channels = level_channels(image_size, width)[-1]
        self.mean = nn.Conv2d(channels, latent_size, SMALLEST)
        self.spread = nn.Conv2d(channels, latent_size, SMALLEST)
        self.latent = latent

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes ``(N, 1, S, S)`` to mean and standard deviation, each ``(N, Z)``."""
        features = self.trunk(image)
        mean, spread = self.mean(features).flatten(1), self.spread(features).flatten(1)
        if self.latent == "tanh":
            return mean.tanh(), spread.tanh()
        return mean, (0.5 * spread.clamp(-10, 10)).exp()


class Generator(nn.Module):
    """Code to image, with self-attention on the two largest levels up to 64 x 64.

    Args:
        image_size: Side S of the images.
        width: Channels of the level before the last.
        latent_size: Length Z of the code.
        pooling: Pooling of keys and values in self-attention.
    """

    def __init__(self, image_size: int, width: int, latent_size: int, pooling: int) -> None:
        super().__init__()
        channels = level_channels(image_size, width)[::-1]
        largest = min(image_size // 2, LARGEST_ATTENTION)
        layers: list[nn.Module] = []
        for level, (inputs, outputs) in enumerate(zip([latent_size, *channels], channels, strict=False)):
            stride, padding = (1, 0) if level == 0 else (2, 1)
            layers += [
                spectral_norm(nn.ConvTranspose2d(inputs, outputs, 4, stride, padding)),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            if SMALLEST * 2**level in (largest // 2, largest):
                layers.append(SelfAttention(outputs, pooling))
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(channels[-1], 1, 4, 2, 1), nn.Tanh())

    def forward(self, code: Tensor) -> Tensor:
        """Generates ``(N, 1, S, S)`` in (-1, 1) from ``(N, Z)``."""
        image: Tensor = self.layers(code[:, :, None, None])
        return image


class Discriminator(nn.Module):
    """Tells real images from generated ones.

    Args:
        image_size: Side S of the images.
        width: Channels of the first level.
        pooling: Pooling of keys and values in self-attention.
    """

    kernels = 64

    def __init__(self, image_size: int, width: int, pooling: int) -> None:
        super().__init__()
        self.trunk = trunk(image_size, width, pooling)
        channels = level_channels(image_size, width)[-1]
        self.minibatch = MinibatchDiscrimination(channels * SMALLEST**2, self.kernels)
        self.head = spectral_norm(nn.Conv2d(channels + self.kernels // SMALLEST**2, 1, SMALLEST))

    def forward(self, image: Tensor, remember: bool = False) -> Tensor:
        """Judges images.

        Args:
            image: ``(N, 1, S, S)`` in (-1, 1).
            remember: Whether the images are real training images whose features evaluation may compare with.

        Returns:
            Logits, higher = more real, ``(N,)``.
        """
        features = self.trunk(image)
        flat = features.flatten(1)
        if remember:
            self.minibatch.remember(flat.detach())
        closeness = self.minibatch(flat).unflatten(1, (-1, SMALLEST, SMALLEST))
        logits: Tensor = self.head(torch.cat([features, closeness], dim=1)).flatten()
        return logits


class CodeDiscriminator(nn.Sequential):
    """Tells codes drawn from the normal distribution, ``(N, Z)``, from an encoder's: logits ``(N,)``.

    Args:
        latent_size: Length Z of the code; the hidden layers have Z/2 and Z/4 units.
    """

    def __init__(self, latent_size: int) -> None:
        half, quarter = latent_size // 2, latent_size // 4
        super().__init__(
            nn.Linear(latent_size, half),
            nn.LeakyReLU(0.1),
            nn.Linear(half, quarter),
            nn.LeakyReLU(0.1),
            nn.Linear(quarter, 1),
            nn.Flatten(0),
        )
