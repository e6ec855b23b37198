"""Noise on what a denoising autoencoder sees in training."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

NoiseKind = Literal["coarse", "pixel"]

GRID = 16
"""Side of the grid that coarse noise is drawn on, whatever the image size."""


def input_noise(mask: Tensor, deviation: float, kind: NoiseKind = "coarse") -> Tensor:
    """Draws normal noise within the foreground.

    Coarse noise has the size of an anomaly: it is drawn on a grid of 16 x 16 points, upsampled bilinearly and moved by
    a random distance, across the edges, so that the grid's points lie anywhere. Source: Kascenas et al. 2022,
    "Denoising autoencoders for unsupervised anomaly detection in brain MRI" (MIDL), section 3.

    Args:
        mask: 1 in the foreground and 0 outside, ``(N, 1, S, S)``.
        deviation: Standard deviation at the grid's points, in units of the image's range [0, 1]; 0.2 as published.
            Between the points, where coarse noise is an average of them, it is smaller.
        kind: ``coarse``, or ``pixel``, drawn for each pixel on its own.

    Returns:
        Noise to add to the image, exactly 0 outside the foreground, ``(N, 1, S, S)``.
    """
    if kind == "pixel":
        return deviation * torch.randn_like(mask) * mask
    height, width = mask.shape[2:]
    grid = torch.randn(len(mask), 1, GRID, GRID, device=mask.device, dtype=mask.dtype)
    noise = interpolate(grid, size=(height, width), mode="bilinear", align_corners=True)
    moves = int(torch.randint(height, ())), int(torch.randint(width, ()))
    return deviation * noise.roll(moves, (2, 3)) * mask
