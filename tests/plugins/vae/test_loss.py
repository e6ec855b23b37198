from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from anomalib_xray_plugins.vae.lightning_model import divergence_loss, warmed_up


def test_divergence_is_that_of_two_normal_distributions() -> None:
    torch.manual_seed(0)
    mean, deviation = torch.randn(4, 5), torch.rand(4, 5) + 0.1
    mask = torch.zeros(4, 1, 8, 8)
    mask[:, :, :3] = 1
    expected = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum()
    torch.testing.assert_close(divergence_loss(mean, deviation, mask, "sum"), expected)
    torch.testing.assert_close(divergence_loss(mean, deviation, mask, "pixels"), expected / (4 * 3 * 8))


def test_images_without_foreground_leave_the_divergence_finite() -> None:
    assert divergence_loss(torch.ones(1, 2), torch.ones(1, 2), torch.zeros(1, 1, 8, 8), "pixels") == 1


@pytest.mark.parametrize(
    ("epochs", "expected"), [(0, [0.2, 0.2, 0.2]), (1, [0.2, 0.2, 0.2]), (4, [0.05, 0.1, 0.15, 0.2, 0.2])]
)
def test_weight_rises_along_a_line(epochs: int, expected: list[float]) -> None:
    np.testing.assert_allclose([warmed_up(0.2, epoch, epochs) for epoch in range(len(expected))], expected)
