"""How much the features of a radiograph and of its reconstruction differ."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def relative_feature_errors(features: Sequence[Tensor], reconstructed: Sequence[Tensor]) -> list[Tensor]:
    """Absolute differences of features relative to the size of the image's features.

    ``|f - f'| / mean |f|``, with the mean over the channels and places of an image's layer, averaged over the channels.
    The mean of a layer's map is the relative error ``sum |f - f'| / sum |f|``. Source: Shvetsova et al. 2021
    (2006.13265), section 3; as score Cai et al. 2024 (2404.04518), "AE-PL". Published features are standardised by the
    statistics of ImageNet first, which are left out here.

    Args:
        features: Features of the images, one ``(N, C, h, w)`` a layer.
        reconstructed: Features of their reconstructions, of the same shapes.

    Returns:
        At least 0, ``(N, 1, h, w)`` a layer.
    """
    errors = []
    for feature, other in zip(features, reconstructed, strict=True):
        size = feature.abs().mean((1, 2, 3), keepdim=True).clamp(min=torch.finfo(feature.dtype).eps)
        errors.append((feature - other).abs().mean(1, keepdim=True) / size)
    return errors


def enlarged_mean(maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Brings maps of several sizes to one, bilinearly, and averages them.

    Args:
        maps: ``(N, 1, h, w)`` each, of different sides.
        size: Height and width of the image.

    Returns:
        ``(N, 1, H, W)``.
    """
    enlarged = [interpolate(one, size=size, mode="bilinear", align_corners=False) for one in maps]
    return torch.stack(enlarged).mean(0)
