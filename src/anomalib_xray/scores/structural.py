"""Structural dissimilarity of a radiograph and its reconstruction."""

from __future__ import annotations

from kornia.metrics import ssim
from torch import Tensor

WINDOW = 11
"""Side of the window, in pixels, as in Wang et al. 2004."""


def dissimilarity(image: Tensor, reconstruction: Tensor, window: int = WINDOW, value_range: float = 1.0) -> Tensor:
    """``(1 - SSIM) / 2`` at each pixel: 0 where the surroundings agree, 1 where they are opposite.

    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity"; as anomaly
    score of autoencoders Bergmann et al. 2019 (1807.02011).

    Args:
        image: Radiographs, values in [0, 1], or feature maps of another range, ``(N, C, H, W)``.
        reconstruction: Their reconstructions, same range and shape.
        window: Side of the window, odd and below twice the side of the maps.
        value_range: Width of the range of values, to which the constants of the formula are set.

    Returns:
        In [0, 1], ``(N, C, H, W)``, each channel on its own.
    """
    found: Tensor = (1 - ssim(image, reconstruction, window, value_range)).clamp(0, 2) / 2
    return found
