from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_xray_plugins.deep_svdd.loss import (
    AWAY_FROM_0,
    away_from_0,
    enclosing_radius,
    squared_distance,
    svdd_loss,
)

RADIUS = torch.tensor(0.7)


@pytest.fixture
def distance() -> torch.Tensor:
    return torch.rand(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_distance_is_the_squared_euclidean_one() -> None:
    codes, center = np.random.default_rng(0).normal(size=(4, 3)), np.array([0.5, -1.0, 2.0])
    expected = [sum((code[i] - center[i]) ** 2 for i in range(3)) for code in codes]
    found = squared_distance(torch.from_numpy(codes), torch.from_numpy(center))
    np.testing.assert_allclose(found.numpy(), expected)


def test_hard_boundary_is_the_mean_squared_distance(distance: torch.Tensor) -> None:
    loss = svdd_loss(distance, "hard", RADIUS, 0.1)
    np.testing.assert_allclose(loss.item(), distance.numpy().sum() / 20)


@pytest.mark.parametrize("nu", [0.1, 1.0])
def test_soft_boundary_pays_for_the_radius_and_for_what_lies_outside(distance: torch.Tensor, nu: float) -> None:
    radius = RADIUS.double()
    loss = svdd_loss(distance, "soft", radius, nu)
    outside = [max(0.0, value - radius.item() ** 2) for value in distance.tolist()]
    np.testing.assert_allclose(loss.item(), radius.item() ** 2 + sum(outside) / (nu * 20))


def test_radius_leaves_its_share_outside(distance: torch.Tensor) -> None:
    radius = enclosing_radius(distance, 0.25)
    assert (distance.sqrt() > radius).sum() == 5
    np.testing.assert_allclose(radius.item(), np.quantile(np.sqrt(distance.numpy()), 0.75), rtol=1e-6)


def test_center_keeps_away_from_0_on_its_side() -> None:
    center = torch.tensor([0.0, 0.03, -0.03, 0.5, -0.5, AWAY_FROM_0])
    torch.testing.assert_close(away_from_0(center), torch.tensor([0.1, 0.1, -0.1, 0.5, -0.5, 0.1]))
