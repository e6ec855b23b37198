"""From feature maps to vectors, and from places back to pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from anomalib_xray.errors import XrayError

Pooling = Literal["average", "max", "flatten", "places"]


def pooled(features: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Makes a vector of a feature map.

    Args:
        features: ``(N, C, h, w)``, or ``(N, C)``, which is left as it is.
        mask: 1 in the foreground and 0 outside, ``(N, 1, S, S)``.
        pooling: ``average`` or ``max`` over the places with foreground, or ``flatten``.

    Returns:
        ``(N, C)``, with ``flatten`` ``(N, C h w)``.
    """
    if features.ndim == 2 or pooling == "flatten":
        return features.flatten(1)
    shown = shown_places(features, mask)
    if pooling == "max":
        lowest = features.amin((2, 3), keepdim=True)
        return torch.where(shown > 0, features, lowest).amax((2, 3))
    return (features * shown).sum((2, 3)) / shown.sum((2, 3)).clamp(min=1)


def shown_places(features: Tensor, mask: Tensor) -> Tensor:
    """Where feature maps ``(N, C, h, w)`` have foreground under them: 1 or 0, ``(N, 1, h, w)``.

    Everywhere, if the side of the mask ``(N, 1, S, S)`` is no multiple of theirs: such places are no parts of an image.
    """
    side, places = mask.shape[-1], features.shape[-1]
    return torch.ones_like(features[:, :1]) if side % places else max_pool2d(mask, side // places)


def joined(features: Sequence[Tensor]) -> Tensor:
    """Puts feature maps on top of each other, the smaller ones enlarged (Roth et al. 2022, 2106.08265).

    Args:
        features: ``(N, C, h, w)`` each, with sides that divide the largest.

    Returns:
        ``(N, D, h, w)`` with the sides of the largest.

    Raises:
        XrayError: Some are vectors.
    """
    if any(some.ndim != 4 for some in features):
        raise XrayError(
            "The codes of this encoder have no places: set pooling to average, which leaves them as they are."
        )
    side = max(some.shape[-1] for some in features)
    return torch.cat([_grown(some, side // some.shape[-1]) for some in features], dim=1)


def enlarged(error: Tensor, shown: Tensor, mask: Tensor) -> Tensor:
    """Brings the errors of places to pixels.

    Args:
        error: ``(N, 1, h, w)``, at least 0.
        shown: 1 where a place has foreground, ``(N, 1, h, w)``.
        mask: 1 in the foreground and 0 outside, ``(N, 1, S, S)``.

    Returns:
        ``(N, 1, S, S)``, 0 outside the foreground, and there of places with foreground alone.
    """
    size = mask.shape[-2:]
    weight = interpolate(shown, size=size, mode="bilinear").clamp(min=torch.finfo(mask.dtype).eps)
    return interpolate(error * shown, size=size, mode="bilinear") / weight * mask


def _grown(features: Tensor, factor: int) -> Tensor:
    return features if factor == 1 else interpolate(features, scale_factor=factor, mode="bilinear")
