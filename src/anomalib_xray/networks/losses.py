"""Training losses shared by models that reconstruct."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, l1_loss, mse_loss, smooth_l1_loss

from anomalib_xray.scores import dissimilarity

ImageError = Literal["mse", "l1", "smooth_l1"]

ReconstructionLoss = Literal["bce", "mse", "l1", "smooth_l1", "ssim"]

IMAGE_ERRORS = {"mse": mse_loss, "l1": l1_loss, "smooth_l1": smooth_l1_loss}
"""Errors that are computed in any precision."""


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

    >>> image, mask = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    >>> masked_mse_loss(torch.tensor([[[[0.5, 0.0], [1.0, 1.0]]]]), image, mask)
    tensor(0.1250)
    """
    return ((reconstruction - image).square() * mask).sum() / mask.sum().clamp(min=1)


def masked_reconstruction_loss(
    reconstruction: Tensor, image: Tensor, mask: Tensor, kind: ReconstructionLoss = "mse"
) -> Tensor:
    """Mean of an error of the choice over the foreground of a whole batch, jointly as in :func:`masked_mse_loss`.

    Args:
        reconstruction: ``(N, 1, H, W)`` in [0, 1].
        image: ``(N, 1, H, W)`` in [0, 1].
        mask: 1 where pixels count and 0 elsewhere, ``(N, 1, H, W)``.
        kind: ``mse``; ``l1``, the absolute error; ``smooth_l1``, half the squared one for values in [0, 1]; ``bce``,
            the binary cross-entropy with the image as probability, whose minimum is not 0 but the image's entropy;
            ``ssim``, 1 - SSIM (Bergmann et al. 2019, 1807.02011), in [0, 2].

    Returns:
        Scalar; 0 for a batch without foreground.

    >>> masked_reconstruction_loss(torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4), "smooth_l1")
    tensor(0.5000)
    """
    if kind == "bce":
        # Not defined in half precision, where a reconstruction can be exactly 1.
        with torch.autocast(image.device.type, enabled=False):
            error = binary_cross_entropy(reconstruction.float(), image.float(), reduction="none")
    elif kind == "ssim":
        error = 2 * dissimilarity(image, reconstruction)
    else:
        error = IMAGE_ERRORS[kind](reconstruction, image, reduction="none")
    return (error * mask).sum() / mask.sum().clamp(min=1)
