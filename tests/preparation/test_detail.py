from __future__ import annotations

import numpy as np
import pytest

from anomalib_xray.preparation.detail import detail


def test_grain_is_detail_and_a_slope_is_none() -> None:
    view = np.tile(np.arange(200, dtype=np.uint8), (100, 1))
    grain = np.random.default_rng(0).integers(-10, 11, (100, 90))
    view[:, 110:] = np.clip(view[:, 110:] + grain, 0, 255)
    found = detail(view)
    assert found.shape == view.shape
    assert found[10:-10, 10:90].max() < 0.1
    assert found[:, 120:-10].min() > 1


def test_the_detail_of_noise_grows_with_the_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (100, 100))
    weak, strong = (detail(np.rint(120 + noise * level).astype(np.uint8)).mean() for level in (5, 20))
    assert strong == pytest.approx(4 * weak, rel=0.05)


def test_an_outline_counts_no_more_than_the_highest_twentieth() -> None:
    view = np.random.default_rng(0).integers(100, 111, (100, 100), np.uint8)
    usual = detail(view).max()
    view[50, 45:55] = 255
    assert detail(view).max() < 1.2 * usual


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (30, 20)])
@pytest.mark.parametrize("level", [0, 100, 255])
def test_pictures_of_one_level_have_no_detail(shape: tuple[int, int], level: int) -> None:
    np.testing.assert_allclose(detail(np.full(shape, level, np.uint8)), 0, atol=1e-3)
