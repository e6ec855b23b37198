from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_xray_plugins.vae.lightning_model import ActiveUnits


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_count_is_that_of_all_codes_together(offset: float) -> None:
    random = np.random.default_rng(0)
    deviations = np.array([0.0, 0.05, 0.099, 0.15, 0.5, 3.0])
    codes = (random.normal(size=(60, 6)) * deviations + offset).astype(np.float32)
    codes[:30, 1] += 0.3  # batches that differ from each other, not within
    expected = codes.astype(float).var(0)
    assert (np.abs(expected - 0.01) > 0.0005).all()
    units = ActiveUnits()
    for start, end in ((0, 30), (30, 31), (31, 60)):
        units.update(torch.from_numpy(codes[start:end]))
    np.testing.assert_allclose((units.squares / units.seen).numpy(), expected, rtol=0.01, atol=1e-4)
    assert units.count() == (expected > 0.01).sum() == 4


def test_units_of_one_image_or_none_are_not_active() -> None:
    units = ActiveUnits()
    assert units.count() == 0
    units.update(torch.tensor([[5.0, -3.0]]))
    assert units.count() == 0
    units.update(torch.tensor([[5.0, 3.0]]))
    assert units.count() == 1
    units.reset()
    assert units.count() == 0
