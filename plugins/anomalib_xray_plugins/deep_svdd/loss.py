"""Losses and quantities of the deep support vector data description.

Source: Ruff et al. 2018, "Deep One-Class Classification", section 3.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Boundary = Literal["hard", "soft"]
"""``hard``: all training images are normal, and the mean distance falls; ``soft``: a share of them may lie outside."""

AWAY_FROM_0 = 0.1
"""Smallest distance of the centre's elements from 0, which a network of zeros would give."""


def squared_distance(codes: Tensor, center: Tensor) -> Tensor:
    """Squared distances ``(N,)`` of codes ``(N, Z)`` from the centre ``(Z,)``."""
    return (codes - center).square().sum(1)


def svdd_loss(distance: Tensor, boundary: Boundary, radius: Tensor, nu: float) -> Tensor:
    """Loss that training lowers.

    ``hard``: ``mean(d^2)`` (equation 4). ``soft``: ``R^2 + mean(max(0, d^2 - R^2)) / nu`` (equation 3).

    Args:
        distance: Squared distances d² of a batch, ``(N,)``.
        boundary: Which of the two.
        radius: The radius R, a scalar; for ``soft``.
        nu: Share of the training images that may lie outside, in (0, 1]; for ``soft``.

    Returns:
        Scalar.
    """
    if boundary == "hard":
        return distance.mean()
    inside = radius.square()
    return inside + (distance - inside).clamp(min=0).mean() / nu


def enclosing_radius(distance: Tensor, nu: float) -> Tensor:
    """Radius that leaves a share of the images outside, the best one while the network is held (section 3.2).

    It is the (1 - nu)-quantile of the distances, whose squares ``(N,)`` are given.
    """
    return distance.float().sqrt().quantile(1 - nu)


def away_from_0(center: Tensor) -> Tensor:
    """Moves elements that are nearly 0 away from it, to the side on which they are.

    A network without bias terms gives 0 with weights of 0; the centre must not be that trivial solution (section 3.4).
    """
    aside = torch.where(center < 0, -AWAY_FROM_0, AWAY_FROM_0).to(center.dtype)
    return torch.where(center.abs() < AWAY_FROM_0, aside, center)
