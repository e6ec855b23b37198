"""Discriminator of patches: which places of an image hold something of another image."""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from anomalib_xray.networks.sagan import SLOPE, level_channels

PLACES = 16
"""Side of the grid of places that are judged."""

LARGEST, SMALLEST = 2 * PLACES, PLACES // 2
"""Sides of the largest and the smallest feature map that judge them: a place alone, and with what is around it."""

GROUPS = 4
"""Groups of channels that are normalised together."""

HIDDEN = 32
"""Channels that each level hands on."""


class PatchDiscriminator(nn.Module):
    """Gives each of 16 x 16 places of an image a logit, higher = more probably something that was put there.

    The way down is that of the self-attentive GANs' discriminators, with group in place of spectral normalisation,
    which keeps logits of all images close together, and ends where places are still told apart. Logits per place are
    those of the PatchGAN (Isola et al. 2017, 1611.07004), group normalisation is Wu and He's (2018, 1803.08494).

    Args:
        image_size: Side S of the images.
        width: Channels of the first level.

    Example:
        >>> PatchDiscriminator(image_size=64, width=8)(torch.zeros(2, 1, 64, 64)).shape
        torch.Size([2, 1, 16, 16])
    """

    def __init__(self, image_size: int, width: int) -> None:
        super().__init__()
        channels = level_channels(image_size, width)
        sides = [image_size // 2 ** (level + 1) for level in range(len(channels))]
        channels = channels[: sides.index(SMALLEST) + 1]
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, 4, 2, 1), nn.GroupNorm(gcd(GROUPS, outputs), outputs), nn.LeakyReLU(SLOPE)
            )
            for inputs, outputs in zip([1, *channels], channels, strict=False)
        )
        self.first = sides.index(LARGEST)
        judging = channels[self.first :]
        self.narrow = nn.ModuleList(nn.Conv2d(many, HIDDEN, 1) for many in judging)
        self.head = nn.Sequential(
            nn.GroupNorm(GROUPS, HIDDEN * len(judging)),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(HIDDEN * len(judging), HIDDEN, 3, padding=1),
            nn.GroupNorm(GROUPS, HIDDEN),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(HIDDEN, 1, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Judges images ``(N, 1, S, S)`` in (-1, 1): logits ``(N, 1, 16, 16)``."""
        found = []
        for number, level in enumerate(self.levels):
            image = level(image)
            if number >= self.first:
                narrow = self.narrow[number - self.first](image)
                smaller = image.shape[-1] < PLACES
                found.append(interpolate(narrow, PLACES) if smaller else adaptive_avg_pool2d(narrow, PLACES))
        logits: Tensor = self.head(torch.cat(found, 1))
        return logits
