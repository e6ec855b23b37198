"""Distances between vectors."""

from __future__ import annotations

from torch import Tensor


def squared_distances(vectors: Tensor, others: Tensor) -> Tensor:
    """Squared Euclidean distances by one matrix product, ``|a|² - 2ab + |b|²``.

    Small distances among long vectors are lost to rounding; see :func:`nearest_distances`.

    Args:
        vectors: ``(N, D)``.
        others: ``(M, D)``.

    Returns:
        At least 0, ``(N, M)``.
    """
    centre = others.mean(0)  # what lies around the origin has shorter vectors, and so less rounding
    vectors, others = vectors - centre, others - centre
    lengths = vectors.square().sum(1, keepdim=True) + others.square().sum(1)
    return (lengths - 2 * vectors @ others.T).clamp(min=0)


def nearest_distances(vectors: Tensor, others: Tensor, count: int) -> Tensor:
    """Euclidean distances to the nearest vectors, computed from their differences.

    Args:
        vectors: ``(N, D)``.
        others: ``(M, D)``.
        count: Number K of the nearest, at most M.

    Returns:
        ``(N, K)``.
    """
    chosen = squared_distances(vectors, others).topk(count, dim=1, largest=False).indices
    return (vectors.unsqueeze(1) - others[chosen]).square().sum(2).sqrt()
