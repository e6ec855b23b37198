from __future__ import annotations

import numpy as np
import pytest

from anomalib_xray.phantom.carrier import sample_carrier


@pytest.mark.parametrize("seed", range(8))
def test_the_whole_plate_stays_in_the_picture(seed: int) -> None:
    shape = (512, 380)
    corners = sample_carrier(shape, np.random.default_rng(seed)).corners(shape)
    assert (corners >= 0).all()
    assert (corners <= (379, 511)).all()
    assert abs(np.degrees(np.arctan2(*(corners[1] - corners[0])[::-1]))) > 1.9


def test_picture_mask_and_points_move_together() -> None:
    shape = (512, 380)
    carrier = sample_carrier(shape, np.random.default_rng(3))
    mask = np.zeros(shape, np.bool_)
    mask[200:221, 100:121] = True
    moved = carrier.mask(mask)
    rows, columns = np.nonzero(moved)
    assert (columns.mean(), rows.mean()) == pytest.approx(carrier.points(np.array([[110.0, 210.0]]))[0], abs=0.6)
    picture = carrier.picture(np.where(mask, 200, 50).astype(np.uint8))
    assert picture[moved].mean() > 190
    assert picture[0, 0] == carrier.surroundings
