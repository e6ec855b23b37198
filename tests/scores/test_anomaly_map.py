from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from anomalib_xray.scores import SmoothedErrorMap


@pytest.fixture
def mask() -> torch.Tensor:
    y, x = np.mgrid[-1:1:40j, -1:1:48j]
    disc = torch.from_numpy((x**2 + y**2 < 0.5).astype(np.float32))
    return torch.stack([disc, torch.ones_like(disc), torch.zeros_like(disc)]).unsqueeze(1)


@pytest.fixture
def error(mask: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random(mask.shape).astype(np.float32))


def test_is_the_smoothed_error_over_the_smoothed_foreground(error: torch.Tensor, mask: torch.Tensor) -> None:
    inside = error[0, 0].numpy(), mask[0, 0].numpy()
    smoothed = gaussian_filter(inside[0] * inside[1], 1.5, mode="mirror", truncate=4)
    weight = gaussian_filter(inside[1], 1.5, mode="mirror", truncate=4)
    expected = np.where(inside[1] > 0, smoothed / np.maximum(weight, 1e-7), 0)
    np.testing.assert_allclose(SmoothedErrorMap(1.5)(error, mask)[0], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("sigma", [0, 1, 4])
def test_is_exactly_0_outside_the_foreground(error: torch.Tensor, mask: torch.Tensor, sigma: float) -> None:
    anomaly_map = SmoothedErrorMap(sigma)(error, mask)
    assert anomaly_map.shape == (3, 40, 48)
    assert (anomaly_map[mask.squeeze(1) == 0] == 0).all()
    assert (anomaly_map[mask.squeeze(1) == 1] > 0).all()


@pytest.mark.parametrize("sigma", [1, 4])
def test_constant_error_stays_constant_up_to_the_edge(mask: torch.Tensor, sigma: float) -> None:
    anomaly_map = SmoothedErrorMap(sigma)(torch.full_like(mask, 0.3), mask)
    torch.testing.assert_close(anomaly_map, 0.3 * mask.squeeze(1))


def test_without_smoothing_it_is_the_masked_error(error: torch.Tensor, mask: torch.Tensor) -> None:
    assert torch.equal(SmoothedErrorMap(0)(error, mask), (error * mask).squeeze(1))


def test_background_error_does_not_leak_in(error: torch.Tensor, mask: torch.Tensor) -> None:
    spoilt = torch.where(mask > 0, error, 1e3)
    assert torch.equal(SmoothedErrorMap(3)(spoilt, mask), SmoothedErrorMap(3)(error, mask))
