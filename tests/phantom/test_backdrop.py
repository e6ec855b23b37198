from __future__ import annotations

import numpy as np
import pytest

from anomalib_xray.phantom.backdrop import sample_backdrop, sample_divider, sample_plate_film, strips

SHAPE = (256, 200)


@pytest.mark.parametrize("seed", range(5))
def test_strips_lie_at_a_border_and_end(seed: int) -> None:
    rng = np.random.default_rng(seed)
    film = sample_plate_film(rng)
    strip = strips(SHAPE, film, rng)
    rim = max(strip[0].mean(), strip[-1].mean(), strip[:, 0].mean(), strip[:, -1].mean())
    assert rim * film.contrast > 0.5
    assert strip.min() >= 0
    assert np.median(strip) < 0.2 * rim


@pytest.mark.parametrize("seed", range(5))
def test_a_plate_is_grey_and_uneven_but_not_loud(seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture = sample_backdrop(SHAPE, rng).picture(np.full(SHAPE, 60, np.uint8))
    inner = picture[20:-20, 20:-20].astype(float)
    assert 0 < inner.std() < 15
    assert abs(inner.mean() - 60) < 20


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("beside", [True, False])
def test_a_divider_parts_the_picture_in_two(seed: int, beside: bool) -> None:
    divider = sample_divider(SHAPE, np.random.default_rng(seed), beside=beside)
    first, second = divider.masks
    assert not (first & second).any()
    assert 0.8 < (first | second).mean() <= 1
    assert min(first.mean(), second.mean()) > 0.3
    assert first[0, 0]
    assert second[-1, -1]
    rows, columns = np.nonzero(first)
    assert (np.ptp(columns) > np.ptp(rows)) == (not beside)
    for polygon, mask in zip(divider.polygons, divider.masks, strict=True):
        x, y = np.transpose(polygon)
        assert 0.5 * (x @ np.roll(y, -1) - y @ np.roll(x, -1)) == pytest.approx(mask.sum(), rel=0.06)  # clockwise


def test_exposures_keep_their_grey_levels_beside_a_wedge() -> None:
    divider = sample_divider(SHAPE, np.random.default_rng(1))
    corners, images = [], []
    for polygon, grey in zip(divider.polygons, (40, 90), strict=True):
        x0, y0 = np.floor(np.min(polygon, axis=0)).astype(int)
        x1, y1 = np.ceil(np.max(polygon, axis=0)).astype(int)
        corners.append((int(x0), int(y0)))
        images.append(np.full((y1 - y0, x1 - x0), grey, np.uint8))
    picture = divider.picture(tuple(images), tuple(corners))
    for mask, grey in zip(divider.masks, (40, 90), strict=True):
        assert np.median(picture[mask]) == grey
