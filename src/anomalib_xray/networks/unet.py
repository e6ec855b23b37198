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
        self.decoder = way_up(channels)
        self.head = nn.Conv2d(channels[0], outputs, kernel_size=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps, (N, outputs, H, W), of pictures (N, inputs, H, W) whose sides the levels can halve."""
        features = images
        beside: list[torch.Tensor] = []
        for level, block in enumerate(self.encoder):
            features = block(features if level == 0 else max_pool2d(features, 2))
            beside.append(features)
        return cast("torch.Tensor", self.head(rise(self.decoder, beside)))


def way_up(channels: Sequence[int]) -> nn.ModuleList:
    """A block of each level but the coarsest, from coarse to fine; ``channels`` are those of all, from the finest.

    >>> [block[0].in_channels for block in way_up([4, 8, 16])]
    [24, 12]
    """
    return nn.ModuleList(double_convolution(below + own, own) for own, below in reversed(list(pairwise(channels))))


def rise(blocks: nn.ModuleList, levels: Sequence[torch.Tensor]) -> torch.Tensor:
    """Brings what the way down found at each level, from the finest, to the finest: the nearest neighbour is enlarged.

    >>> rise(way_up([4, 8]), [torch.rand(2, 4, 6, 6), torch.rand(2, 8, 3, 3)]).shape
    torch.Size([2, 4, 6, 6])
    """
    features = levels[-1]
    for block, beside in zip(blocks, reversed(levels[:-1]), strict=True):
        enlarged = interpolate(features, size=beside.shape[2:], mode="nearest")
        features = block(torch.cat([enlarged, beside], dim=1))
    return features


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
