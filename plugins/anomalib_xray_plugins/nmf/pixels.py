"""Images as few pixels, and back."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate


def shrunk(image: Tensor, resolution: int) -> Tensor:
    """Averages an image's pixels, ``(N, 1, S, S)`` to ``(N, 1, R, R)``; S is a multiple of R."""
    return avg_pool2d(image, image.shape[-1] // resolution)


def enlarged(small: Tensor, image: Tensor) -> Tensor:
    """Interpolates ``(N, 1, R, R)`` to the size of an image, ``(N, 1, S, S)``."""
    factor = image.shape[-1] // small.shape[-1]
    return small if factor == 1 else interpolate(small, scale_factor=factor, mode="bilinear")
