"""The foreground travels inside the image."""

from __future__ import annotations

from torch import Tensor


def foreground(image: Tensor) -> Tensor:
    """Marks the foreground of prepared radiographs.

    Args:
        image: Radiographs whose background is exactly 0, ``(N, 1, H, W)``, values in [0, 1].

    Returns:
        1 in the foreground and 0 outside, same shape and dtype as ``image``.
    """
    return (image > 0).to(image.dtype)
