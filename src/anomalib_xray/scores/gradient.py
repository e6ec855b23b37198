"""How strongly each pixel could lower the reconstruction error."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def error_gradient(image: Tensor, reconstruct: Callable[[Tensor], Tensor], mask: Tensor) -> Tensor:
    """Absolute gradient of the masked mean squared error with respect to the image.

    Source: Zimmerer et al. 2019 (1907.12215), section 2, for the VAE; Cai et al. 2024 (2404.04518) for autoencoders.

    Works within ``torch.inference_mode`` as well, where no gradient is recorded otherwise. It cannot be exported.

    Args:
        image: Radiographs, values in [0, 1], ``(N, 1, H, W)``.
        reconstruct: Reconstructs images of this shape, each on its own.
        mask: 1 in the foreground and 0 outside, same shape.

    Returns:
        At least 0, ``(N, 1, H, W)``.
    """
    with torch.inference_mode(False), torch.enable_grad():
        pixels = image.detach().clone().requires_grad_(True)
        weight = mask.detach().clone()
        error = ((reconstruct(pixels) - pixels).square() * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1)
        (gradient,) = torch.autograd.grad(error.sum(), pixels)
    return gradient.abs()
