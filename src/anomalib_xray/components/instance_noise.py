"""Noise on what a discriminator sees, which fades while training goes on."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

NoiseSchedule = Literal["linear", "published"]


def instance_noise_level(scale: float, epoch: int, epochs: int, schedule: NoiseSchedule = "linear") -> float:
    """Standard deviation of the noise in an epoch.

    ``linear``: ``scale * (1 - epoch / epochs)``. ``published``: ``scale * |e + 1 - E| / (e + 1)`` with e counted from 1
    as in arXiv 2001.10883's code, where scale is 0.01: 2.49 in the first of 500 epochs, 0.04 in the hundredth.
    Source of the idea: Sønderby et al. 2017 (1610.04490), section 3.

    Args:
        scale: Factor of the noise, 0 for none.
        epoch: Number of the epoch, from 0.
        epochs: Number of epochs of the whole training, at least 1.
        schedule: ``linear`` or ``published``.

    Returns:
        The standard deviation, at least 0, in units of the image's range (-1, 1).
    """
    if schedule == "linear":
        return scale * max(0.0, 1 - epoch / epochs)
    number = epoch + 1
    return scale * abs(number + 1 - epochs) / (number + 1)


def add_noise(image: Tensor, deviation: float) -> Tensor:
    """Adds normal noise; without any, the image itself, and no random number is drawn.

    Args:
        image: ``(N, 1, S, S)``.
        deviation: Standard deviation.

    Returns:
        ``(N, 1, S, S)``.
    """
    return image + deviation * torch.randn_like(image) if deviation > 0 else image
