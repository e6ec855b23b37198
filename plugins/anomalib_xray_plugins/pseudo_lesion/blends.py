"""Kinds of pseudo-lesions: how a patch is laid into a picture, and how much of a lesion that is.

All work on windows of a batch, ``(N, W, W)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from anomalib_xray.transforms.foreground import GREY_LEVEL

Task = Literal["cut_paste", "foreign_patch", "poisson", "natural", "deform"]

JITTER = 0.1
"""Largest change of a pasted patch's brightness, as a share; CutPaste's (2104.04015, section 3.1)."""

LEAST_WEIGHT = 0.05
"""Least weight of either picture in an interpolated patch; FPI's (2011.04197, section 2)."""

STEEPNESS, MIDDLE = 0.5, 4.0
"""Logistic function by which a difference in grey levels of 255 becomes a label; NSA's of chests (its appendix)."""

SMOOTHED = 5
"""Side of the squares over which a difference is averaged before it becomes a label, in pixels."""

CLOSE = 1e-4
"""Residual of the Poisson equation, in units of the image's range, at which its solution is close enough."""


def pasted(own: Tensor, patch: Tensor, region: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """CutPaste (2104.04015): a patch of the same picture, its brightness changed by up to a tenth, and a hard label.

    Args:
        own: What the picture shows, ``(N, W, W)``.
        patch: What the source shows, ``(N, W, W)``.
        region: Pixels of the lesion, ``(N, W, W)``.
        weight: A number in [0, 1) of each picture, ``(N, 1, 1)``.

    Returns:
        What the picture shows afterwards, and how much of a lesion each pixel is, in [0, 1].
    """
    factor = 1 + JITTER * (2 * weight - 1)
    return torch.where(region, patch * factor, own), region.to(own.dtype)


def interpolated(own: Tensor, patch: Tensor, region: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """FPI (2011.04197): ``(1 - a) x_i + a x_j`` in the region, whose label is a; arguments as of :func:`pasted`."""
    share = LEAST_WEIGHT + weight * (1 - 2 * LEAST_WEIGHT)
    return torch.where(region, own + share * (patch - own), own), share * region


def poisson(own: Tensor, patch: Tensor, region: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """PII (2107.02622): as FPI, but of gradients: each step is the larger of ``(1 - a) dx_i`` and ``a dx_j``."""
    share = LEAST_WEIGHT + weight * (1 - 2 * LEAST_WEIGHT)
    return blend(own, (1 - share) * own, share * patch, region), share * region


def natural(own: Tensor, patch: Tensor, region: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    """NSA (2109.15222): a patch of another size blended in by its own gradients; the label follows the difference."""
    changed = blend(own, None, patch, region)
    return changed, label_of_difference(own, changed, region)


def deformed(own: Tensor, patch: Tensor, region: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    """The picture itself with pixels moved; the label follows the difference: nothing changes where all is flat."""
    changed = torch.where(region, patch, own)
    return changed, label_of_difference(own, changed, region)


BLENDS: dict[Task, Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "cut_paste": pasted,
    "foreign_patch": interpolated,
    "poisson": poisson,
    "natural": natural,
    "deform": deformed,
}


def label_of_difference(own: Tensor, changed: Tensor, region: Tensor) -> Tensor:
    """How much of a lesion a pixel is: a logistic function of the difference in grey levels, NSA's equation 3.

    The difference is first averaged over squares of 5 pixels, where NSA takes a median afterwards; and the function is
    stretched, so that a pixel without any is 0, where NSA's is 0.12.
    """
    difference = avg_pool2d((changed - own).abs().unsqueeze(1) / GREY_LEVEL, SMOOTHED, 1, SMOOTHED // 2).squeeze(1)
    nothing = 1 / (1 + math.exp(STEEPNESS * MIDDLE))
    return (torch.sigmoid(STEEPNESS * (difference - MIDDLE)) - nothing).clamp(min=0) / (1 - nothing) * region


def blend(own: Tensor, kept: Tensor | None, patch: Tensor, region: Tensor) -> Tensor:
    """Solves the Poisson equation of image editing (Perez et al. 2003, equation 7) in regions of windows.

    In the region the result's differences between neighbours are, in the sense of least squares, those of the patch;
    or, with ``kept``, the larger ones of the two. Outside, and so at the region's border, the picture stays. Solved
    by conjugate gradients, for all pictures at once.

    Args:
        own: What the picture shows, ``(N, W, W)``.
        kept: Whose differences compete with the patch's; none, and the patch's are taken.
        patch: ``(N, W, W)``.
        region: Pixels to be found, none of them at a window's border, ``(N, W, W)``.

    Returns:
        ``(N, W, W)``.
    """
    residual = torch.zeros_like(own)
    for axis, step in ((1, 1), (1, -1), (2, 1), (2, -1)):
        wanted = patch - patch.roll(step, axis)
        if kept is not None:
            own_step = kept - kept.roll(step, axis)
            wanted = torch.where(own_step.abs() > wanted.abs(), own_step, wanted)
        residual = residual + wanted - (own - own.roll(step, axis))
    inside = region.to(own.dtype)
    residual = residual * inside
    found, direction = torch.zeros_like(own), residual
    power = residual.square().sum((1, 2), keepdim=True)
    for _ in range(4 * own.shape[-1]):
        if float(residual.abs().max()) <= CLOSE:
            break
        sums = 4 * direction
        for axis, step in ((1, 1), (1, -1), (2, 1), (2, -1)):
            sums = sums - direction.roll(step, axis)
        sums = sums * inside
        size = power / (direction * sums).sum((1, 2), keepdim=True).clamp(min=torch.finfo(own.dtype).tiny)
        found, residual = found + size * direction, residual - size * sums
        before, power = power, residual.square().sum((1, 2), keepdim=True)
        direction = residual + power / before.clamp(min=torch.finfo(own.dtype).tiny) * direction
    return own + found
