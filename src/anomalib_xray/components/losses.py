"""Training losses shared by models that reconstruct."""

from __future__ import annotations

from torch import Tensor


def masked_mse_loss(reconstruction: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error over the foreground of a whole batch.

    ``sum(m (x - x')^2) / sum(m)``, jointly over the batch, so that an image counts by the size of its foreground.
    Source: arXiv 2001.10883, section 3.

    Args:
        reconstruction: ``(N, 1, H, W)``.
        image: ``(N, 1, H, W)``.
        mask: 1 in the foreground and 0 outside, ``(N, 1, H, W)``.

    Returns:
        Scalar; 0 for a batch without foreground.
    """
    return ((reconstruction - image).square() * mask).sum() / mask.sum().clamp(min=1)
