"""Per-pixel errors of a reconstruction, and scores that average them over the foreground.

Source: arXiv 2001.10883, section 3 (masked mean squared error and its 200 largest pixels); the fraction of the
foreground instead of 200 pixels makes scores of different image sizes comparable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from kornia.metrics import ssim
from torch import Tensor
from torch.nn.functional import interpolate, smooth_l1_loss

from anomalib_xray.errors import XrayError

TOP_K = "_top_k"
"""Ending of the scores of an error's largest pixels."""

RECONSTRUCTION_SCORES = ("mse", "mse_top_k", "l1", "l1_top_k", "smooth_l1", "smooth_l1_top_k")
"""Scores of every model that reconstructs: three errors, over the foreground and over its largest pixels."""


def foreground(image: Tensor) -> Tensor:
    """Marks the foreground of prepared radiographs, whose background is exactly 0.

    Args:
        image: ``(N, 1, H, W)``, values in [0, 1].

    Returns:
        1 in the foreground and 0 outside, same shape and dtype.

    Example:
        >>> foreground(torch.tensor([0.0, 0.3]))
        tensor([0., 1.])
    """
    return (image > 0).to(image.dtype)


def check_top_k(top_k: float) -> None:
    """Refuses a setting that is neither a number of pixels nor a fraction of them.

    Raises:
        XrayError: It is something else, such as 1.5.
    """
    if not (0 < top_k < 1 or (top_k >= 1 and float(top_k).is_integer())):
        raise XrayError(
            f"top_k is {top_k:g}, but it is a whole number of pixels, for example 200, or a fraction of the foreground "
            "between 0 and 1, for example 0.03."
        )


def masked_mean(error: Tensor, mask: Tensor) -> Tensor:
    """Averages a per-pixel error over the foreground of each image.

    Args:
        error: Error of each pixel, at least 0, ``(N, 1, H, W)``.
        mask: 1 in the foreground and 0 outside, ``(N, 1, H, W)``.

    Returns:
        ``(N,)``; 0 for an image without foreground.

    Example:
        >>> masked_mean(torch.tensor([[[[0.2, 0.4, 0.9]]]]), mask=torch.tensor([[[[1, 1, 0]]]]))
        tensor([0.3000])
    """
    return (error * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)).clamp(min=1)


def masked_top_k_mean(error: Tensor, mask: Tensor, top_k: float) -> Tensor:
    """Averages the largest per-pixel errors of each image.

    Args:
        error: As in :func:`masked_mean`.
        mask: As in :func:`masked_mean`.
        top_k: Whole number of pixels if 1 or more (200 as published), otherwise the fraction of the foreground.

    Returns:
        ``(N,)``; 0 for an image without foreground.

    Raises:
        XrayError: ``top_k`` is neither.

    Example:
        >>> masked_top_k_mean(torch.tensor([[[[0.2, 0.4, 0.9]]]]), torch.ones(1, 1, 1, 3), top_k=2)
        tensor([0.6500])
    """
    check_top_k(top_k)
    errors, pixels = (error * mask).flatten(1), mask.sum((1, 2, 3))
    # As many as there can be if all were foreground: sorting every pixel takes ten times as long.
    most = min(max(math.ceil(top_k if top_k >= 1 else top_k * errors.shape[1]), 1), errors.shape[1])
    largest = errors.topk(most, dim=1).values
    count = torch.full_like(pixels, top_k) if top_k >= 1 else (top_k * pixels).ceil()
    count = count.clamp(min=1, max=most).unsqueeze(1)
    rank = torch.arange(largest.shape[1], device=error.device)
    return (largest * (rank < count)).sum(1) / count.squeeze(1)


def reconstruction_errors(image: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
    """Computes the per-pixel errors that reconstruction scores average.

    Args:
        image: Radiographs, values in [0, 1], ``(N, 1, H, W)``.
        reconstruction: Their reconstructions, same range and shape.

    Returns:
        ``mse``: squared difference; ``l1``: absolute difference; ``smooth_l1``: half the squared difference, as no
        difference exceeds 1. The published "L1" is the last one, and so ranks images as ``mse`` does. Each ``(N, 1, H,
        W)``.

    Example:
        >>> errors = reconstruction_errors(torch.tensor([0.75]), torch.tensor([0.25]))
        >>> {name: error.item() for name, error in errors.items()}
        {'mse': 0.25, 'l1': 0.5, 'smooth_l1': 0.125}
    """
    return {
        "mse": (image - reconstruction).square(),
        "l1": (image - reconstruction).abs(),
        "smooth_l1": smooth_l1_loss(reconstruction, image, reduction="none"),
    }


def error_scores(errors: Mapping[str, Tensor], mask: Tensor, top_k: float) -> dict[str, Tensor]:
    """Averages per-pixel errors over the foreground, ``<name>``, and over their largest pixels, ``<name>_top_k``.

    Args:
        errors: Errors by name, each at least 0, ``(N, 1, H, W)``.
        mask: As in :func:`masked_mean`.
        top_k: As in :func:`masked_top_k_mean`.

    Returns:
        ``(N,)`` each.

    Example:
        >>> list(error_scores({"mse": torch.rand(1, 1, 4, 4)}, torch.ones(1, 1, 4, 4), top_k=0.5))
        ['mse', 'mse_top_k']
    """
    scores = {}
    for name, error in errors.items():
        scores[name] = masked_mean(error, mask)
        scores[name + TOP_K] = masked_top_k_mean(error, mask, top_k)
    return scores


def reconstruction_scores(image: Tensor, reconstruction: Tensor, mask: Tensor, top_k: float) -> dict[str, Tensor]:
    """:func:`error_scores` of :func:`reconstruction_errors`: the named scores of a model that reconstructs.

    Example:
        >>> image, mask = torch.full((1, 1, 4, 4), 0.5), torch.ones(1, 1, 4, 4)
        >>> scores = reconstruction_scores(image, image - 0.5, mask, top_k=200)
        >>> {name: score.item() for name, score in scores.items() if not name.endswith("_top_k")}
        {'mse': 0.25, 'l1': 0.5, 'smooth_l1': 0.125}
    """
    return error_scores(reconstruction_errors(image, reconstruction), mask, top_k)


def dissimilarity(image: Tensor, reconstruction: Tensor, window: int = 11, value_range: float = 1.0) -> Tensor:
    """``(1 - SSIM) / 2`` at each pixel: 0 where the surroundings agree, 1 where they are opposite.

    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity"; as anomaly
    score of autoencoders Bergmann et al. 2019 (1807.02011).

    Args:
        image: Radiographs, values in [0, 1], or feature maps of another range, ``(N, C, H, W)``.
        reconstruction: Their reconstructions, same range and shape.
        window: Side of the window in pixels, odd and below twice the side of the maps; 11 as published.
        value_range: Width of the range of values, to which the constants of the formula are set.

    Returns:
        In [0, 1], ``(N, C, H, W)``, each channel on its own.

    Example:
        >>> image = torch.rand(1, 1, 16, 16)
        >>> float(dissimilarity(image, image).max())
        0.0
    """
    found: Tensor = (1 - ssim(image, reconstruction, window, value_range)).clamp(0, 2) / 2
    return found


def error_gradient(image: Tensor, reconstruct: Callable[[Tensor], Tensor], mask: Tensor) -> Tensor:
    """Absolute gradient of the masked mean squared error with respect to the image.

    Source: Zimmerer et al. 2019 (1907.12215), section 2, for the VAE; Cai et al. 2024 (2404.04518) for autoencoders.

    It works within ``torch.inference_mode`` as well, and cannot be exported.

    Args:
        image: Radiographs, values in [0, 1], ``(N, 1, H, W)``.
        reconstruct: Reconstructs images of this shape, each on its own.
        mask: 1 in the foreground and 0 outside, same shape.

    Returns:
        At least 0, ``(N, 1, H, W)``.

    Example:
        >>> error_gradient(torch.full((1, 1, 1, 1), 0.5), torch.zeros_like, torch.ones(1, 1, 1, 1)).item()
        1.0
    """
    with torch.inference_mode(False), torch.enable_grad():
        pixels = image.detach().clone().requires_grad_(True)
        weight = mask.detach().clone()
        error = ((reconstruct(pixels) - pixels).square() * weight).sum((1, 2, 3)) / weight.sum((1, 2, 3)).clamp(min=1)
        (gradient,) = torch.autograd.grad(error.sum(), pixels)
    return gradient.abs()


def relative_feature_errors(features: Sequence[Tensor], reconstructed: Sequence[Tensor]) -> list[Tensor]:
    """Absolute differences of features relative to the size of the image's features.

    ``|f - f'| / mean |f|``, with the mean over the channels and places of an image's layer, averaged over the channels.
    The mean of a layer's map is the relative error ``sum |f - f'| / sum |f|``. Source: Shvetsova et al. 2021
    (2006.13265), section 3; as score Cai et al. 2024 (2404.04518), "AE-PL". Published features are standardised by the
    statistics of ImageNet first, which are left out here.

    Args:
        features: Features of the images, one ``(N, C, h, w)`` per layer.
        reconstructed: Features of their reconstructions, of the same shapes.

    Returns:
        At least 0, ``(N, 1, h, w)`` per layer.

    Example:
        >>> relative_feature_errors([torch.full((1, 2, 1, 1), 4.0)], [torch.full((1, 2, 1, 1), 3.0)])
        [tensor([[[[0.2500]]]])]
    """
    errors = []
    for feature, other in zip(features, reconstructed, strict=True):
        size = feature.abs().mean((1, 2, 3), keepdim=True).clamp(min=torch.finfo(feature.dtype).eps)
        errors.append((feature - other).abs().mean(1, keepdim=True) / size)
    return errors


def enlarged_mean(maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Enlarges maps ``(N, 1, h, w)`` bilinearly to one size ``(H, W)`` and averages them.

    Example:
        >>> enlarged_mean([torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 2, 2)], size=(4, 4)).shape
        torch.Size([1, 1, 4, 4])
    """
    enlarged = [interpolate(one, size=size, mode="bilinear", align_corners=False) for one in maps]
    return torch.stack(enlarged).mean(0)
