"""Refinement of the discrepancy maps by a small network that learns from anomalies painted into normal images.

Source: Cai et al. 2023, "Dual-distribution discrepancy with self-supervised refinement for anomaly detection in medical
images" (Medical Image Analysis 86), and its code.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from anomalib_xray.transforms.foreground import keep_foreground

Refinement = Literal["none", "dual", "intra"]

REFINED_MAPS = {"none": (), "dual": ("inter", "intra"), "intra": ("intra",)}
"""Discrepancy maps that the network sees."""

SHARE = 0.5
"""Share of the images into which an anomaly is painted."""

SMOOTHING = 1e-5
"""Least probability of a target."""

FOCUS = 2.0
"""Exponent of the focal loss."""


class Refiner(nn.Module):
    """Three convolutions from discrepancy maps to the probability that a pixel is anomalous.

    Args:
        maps: Number of maps M.
        width: Channels between the convolutions (128 as published).
    """

    def __init__(self, maps: int, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(maps, width, 3, 1, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, 1, 1),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, 2, 3, 1, 1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Maps ``(N, M, S, S)`` to probabilities of normal and anomalous, which sum to 1, ``(N, 2, S, S)``."""
        probabilities: Tensor = self.layers(maps).softmax(1)
        return probabilities


def paint_anomalies(image: Tensor, others: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blends the part of another normal image that lies in a square into the foreground of half of the images.

    The square's centre lies in the central 80 % of the image, its half side is 5 to 20 % of the image's side, the
    weight of the other image in it is uniform in [0, 1). The published code marks whole squares; on radiographs with a
    black background most of their pixels can be ones that nothing was painted on.

    Args:
        image: ``(N, 1, S, S)`` in [0, 1], background exactly 0.
        others: Other normal images, same shape.
        source: Source of chance, on the CPU.

    Returns:
        Images with anomalies on their own background, and 1 where a pixel changed and 0 elsewhere, each ``(N, 1, S,
        S)``.
    """
    number, side = len(image), image.shape[-1]
    low, high = round(0.1 * side), round(0.9 * side)
    centre = torch.randint(low, high, (2, number, 1, 1), generator=source)
    half = torch.randint(round(0.05 * side), round(0.2 * side) + 1, (number, 1, 1), generator=source)
    chosen = torch.rand(number, 1, 1, generator=source) < SHARE
    weight = torch.rand(number, 1, 1, 1, generator=source).to(image)
    place = torch.arange(side)
    rows = (place[:, None] - centre[0]).abs() < half
    columns = (place - centre[1]).abs() < half
    square = (rows & columns & chosen).unsqueeze(1).to(image)
    painted = keep_foreground(image + square * weight * (others - image), image > 0)
    return painted, (painted != image).to(image)


def focal_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy that counts well recognised pixels less (Lin et al. 2017, 1708.02002), targets a little smoothed.

    Args:
        probabilities: Of normal and anomalous, ``(N, 2, S, S)``.
        target: 1 where anomalous and 0 elsewhere, ``(N, 1, S, S)``.
    """
    wanted = torch.cat([1 - target, target], 1).clamp(SMOOTHING, 1 - SMOOTHING)
    agreed = (wanted * probabilities).sum(1) + SMOOTHING
    return -((1 - agreed).clamp(min=0) ** FOCUS * agreed.log()).mean()
