"""Places of feature maps, and the pixels that they stand for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d


def shown_places(features: Tensor, mask: Tensor) -> Tensor:
    """1 where feature maps ``(N, C, h, w)`` have foreground under them and 0 elsewhere, ``(N, 1, h, w)``.

    1 everywhere if the side of the mask ``(N, 1, S, S)`` is not a multiple of theirs: then places are not parts of it.

    >>> shown_places(torch.zeros(1, 5, 1, 2), torch.tensor([[[[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]]))
    tensor([[[[1., 0.]]]])
    """
    side, places = mask.shape[-1], features.shape[-1]
    return torch.ones_like(features[:, :1]) if side % places else max_pool2d(mask, side // places)


def at_pixels(values: Tensor, mask: Tensor) -> Tensor:
    """Enlarges what is known of places ``(N, 1, h, w)`` to the pixels of a mask ``(N, 1, H, W)``, 0 outside of it.

    Places of the background say nothing, so the pixels beside it are interpolated from the foreground's alone.

    >>> at_pixels(torch.tensor([[[[2.0, 9.0]]]]), torch.tensor([[[[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]]]))
    tensor([[[[2., 2., 0., 0.],
              [2., 0., 0., 0.]]]])
    """
    size, shown = mask.shape[-2:], shown_places(values, mask)
    weight = interpolate(shown, size=size, mode="bilinear").clamp(min=torch.finfo(mask.dtype).eps)
    return interpolate(values * shown, size=size, mode="bilinear") / weight * mask
