"""A small U-Net that tells hands from background."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # the name that torch's own documentation uses

_CHANNELS = (12, 24, 40, 48, 48)


class UNet(nn.Module):
    """U-Net (arXiv 1505.04597) with a quarter of a million parameters.

    The picture is standardised first, so that dim and bright films look alike.
    """

    def __init__(self) -> None:
        super().__init__()
        self.standardise = nn.InstanceNorm2d(1)
        self.encoder = nn.ModuleList(_block(*channels) for channels in pairwise((1, *_CHANNELS)))
        self.decoder = nn.ModuleList(
            _block(below + beside, beside) for beside, below in reversed(list(pairwise(_CHANNELS)))
        )
        self.head = nn.Conv2d(_CHANNELS[0], 1, kernel_size=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Gives each pixel's logit of being foreground.

        Args:
            images: (N, 1, H, W) in [0, 1]; height and width are multiples of 16.

        Returns:
            (N, 1, H, W).
        """
        features = self.standardise(images)
        beside: list[torch.Tensor] = []
        for level, block in enumerate(self.encoder):
            features = block(features if level == 0 else F.max_pool2d(features, 2))
            beside.append(features)
        for block, skipped in zip(self.decoder, reversed(beside[:-1]), strict=True):
            features = F.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([features, skipped], dim=1))
        return cast("torch.Tensor", self.head(features))


def _block(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )
