"""U-Net: a map of numbers for each pixel of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import nn
from torch.nn.functional import interpolate, max_pool2d


class UNet(nn.Module):
    """U-Net (arXiv 1505.04597) with batch normalisation, and the nearest neighbour on the way up.

    Args:
        inputs: Channels of the pictures.
        outputs: Channels of the maps.
        channels: Channels of each level, from the finest; each level but the first halves the sides.

    Example:
        >>> UNet(1, 2, [4, 8])(torch.rand(1, 1, 6, 4)).shape
        torch.Size([1, 2, 6, 4])
    """

    def __init__(self, inputs: int, outputs: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(double_convolution(*pair) for pair in pairwise((inputs, *channels)))
        self.decoder = nn.ModuleList(
            double_convolution(below + beside, beside) for beside, below in reversed(list(pairwise(channels)))
        )
        self.head = nn.Conv2d(channels[0], outputs, kernel_size=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps, (N, outputs, H, W), of pictures (N, inputs, H, W) whose sides the levels can halve."""
        features = images
        beside: list[torch.Tensor] = []
        for level, block in enumerate(self.encoder):
            features = block(features if level == 0 else max_pool2d(features, 2))
            beside.append(features)
        for block, skipped in zip(self.decoder, reversed(beside[:-1]), strict=True):
            features = interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([features, skipped], dim=1))
        return cast("torch.Tensor", self.head(features))


def double_convolution(channels: int, width: int) -> nn.Sequential:
    """Two convolutions that keep the size of a map, each with batch normalisation and ReLU.

    >>> double_convolution(2, 5)(torch.rand(2, 2, 6, 4)).shape
    torch.Size([2, 5, 6, 4])
    """
    return nn.Sequential(
        nn.Conv2d(channels, width, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )
