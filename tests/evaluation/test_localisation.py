from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from anomalib_xray.evaluation.localisation import (
    MARKS,
    RATES,
    TOLERANCE,
    aupro,
    boxes_of,
    froc,
    hits_box,
    localisation,
    marks_of,
)


def test_figures_are_those_of_the_foreground() -> None:
    generator = np.random.default_rng(0)
    heat = generator.normal(size=(40, 60)).astype(np.float32)
    mask = np.zeros((40, 60), bool)
    mask[10:20, 30:45] = True
    heat[mask] += 1
    shown = np.ones_like(mask)
    shown[:, :25] = False
    shown[:12] = False
    heat[~shown] = 100
    found = localisation(heat, mask, shown)
    assert found.pixel_auroc == pytest.approx(roc_auc_score(mask[shown], heat[shown]))
    positive = np.maximum(heat[shown], 0)
    assert found.energy_share == pytest.approx(positive[mask[shown]].sum() / positive.sum(), rel=1e-5)
    assert found.mask_share == pytest.approx(8 * 15 / (28 * 35))


@pytest.mark.parametrize(("row", "column", "hit"), [(50, 50, 1), (50, 57, 1), (50, 65, 0), (0, 0, 0)])
def test_pointing_game_is_won_on_the_anomaly_or_close_to_it(row: int, column: int, hit: float) -> None:
    mask = np.zeros((100, 200), bool)
    mask[45:56, 45:53] = True
    heat = np.zeros((100, 200), np.float32)
    heat[row, column] = 1
    assert localisation(heat, mask, np.ones_like(mask)).pointing_game == hit


def test_what_is_not_there_is_not_a_number() -> None:
    heat = np.ones((4, 4), np.float32)
    shown = np.ones((4, 4), bool)
    nothing = localisation(heat, np.zeros((4, 4), bool), shown)
    assert np.isnan(nothing[:3]).all()
    assert nothing.mask_share == 0
    cold = localisation(-heat, np.eye(4, dtype=bool), shown)
    assert np.isnan([cold.pointing_game, cold.energy_share]).all()
    assert cold.pixel_auroc == 0.5
    assert np.isnan(localisation(heat, shown, ~shown)).all()


@pytest.mark.parametrize(
    ("row", "column", "hit"), [(4, 12, True), (9, 13, True), (10, 12, False), (4, 30, True), (4, 20, False)]
)
def test_the_hottest_pixel_hits_the_box_of_one_anomaly(row: int, column: int, hit: bool) -> None:
    mask = np.zeros((20, 40), bool)
    mask[np.arange(2, 10), np.arange(10, 18)] = True  # a slanting line, whose box is larger
    mask[4, 30] = True
    heat = np.zeros((20, 40), np.float32)
    heat[row, column], heat[0, 0] = 1, 2
    shown = np.ones_like(mask)
    shown[:2] = False
    found, share = hits_box(heat, mask, shown)
    assert found is hit
    assert share == pytest.approx((8 * 8 + 1) / (18 * 40))


def test_marks_are_local_maxima_that_stand_apart() -> None:
    random = np.random.default_rng(0)
    shown = np.zeros((100, 100), bool)
    shown[20:90, 10:95] = True
    heat = random.random((100, 100)).astype(np.float32)
    heat[0, 0] = 9  # in the background
    heat[30, 30:32] = 5  # two equal neighbours are one mark
    marks = marks_of(heat, shown)
    reach = TOLERANCE * 100
    places = [(row, column) for row, column in zip(*np.nonzero(shown), strict=True)]
    expected = []
    for row, column in sorted(places, key=lambda place: -heat[place]):
        near = [place for place in places if np.hypot(place[0] - row, place[1] - column) <= reach]
        if heat[row, column] == max(heat[place] for place in near) and not set(near) & set(expected):
            expected.append((row, column))
        if len(expected) == MARKS:
            break
    assert marks == expected
    assert marks[0] in {(30, 30), (30, 31)}


@pytest.mark.parametrize("ties", [False, True])
def test_sensitivity_at_false_marks_per_picture(ties: bool) -> None:
    random = np.random.default_rng(0)
    lesions, false = random.normal(1, 1, 30), random.normal(size=60)
    if ties:
        lesions, false = lesions.round(), false.round()
    lesions[:4] = -np.inf
    expected = {}
    for rate in RATES:
        allowed = [t for t in [*false, *lesions, -1e9] if (false > t).sum() <= rate * 10]
        expected[rate] = max((lesions > t).mean() for t in allowed)
    assert froc(lesions, false, 10) == pytest.approx(expected)
    assert np.isnan(list(froc([], false, 10).values())).all()
    assert np.isnan(list(froc(lesions, [], 0).values())).all()
    assert froc(lesions, [], 10)[8] == pytest.approx(26 / 30)


def test_overlap_of_regions_is_that_of_anomalib_where_all_is_foreground() -> None:
    from anomalib.metrics.aupro import _AUPRO

    random = np.random.default_rng(0)
    masks = np.zeros((4, 64, 64), bool)
    masks[0, 5:15, 5:9], masks[1, 40:60, 30:50], masks[1, 2:6, 2:6] = True, True, True
    heat = (random.random((4, 64, 64)) + 0.4 * masks * random.random((4, 64, 64))).astype(np.float32)
    theirs = _AUPRO()
    theirs.update(torch.from_numpy(heat), torch.from_numpy(masks).int())
    regions = [heat[0, 5:15, 5:9].ravel(), heat[1, 40:60, 30:50].ravel(), heat[1, 2:6, 2:6].ravel()]
    assert aupro(regions, heat[~masks]) == pytest.approx(float(theirs.compute()), abs=2e-3)


def test_overlap_of_regions_against_all_thresholds_and_ties() -> None:
    random = np.random.default_rng(1)
    regions = [random.integers(2, 9, count).astype(np.float32) for count in (3, 20)]
    normal = random.integers(0, 7, 40).astype(np.float32)
    points = [(0.0, 0.0)]
    for threshold in range(9, -1, -1):
        overlap = np.mean([(one >= threshold).mean() for one in regions])
        points.append(((normal >= threshold).mean(), overlap))
    rates, overlaps = zip(*points, strict=True)
    grid = np.linspace(1e-9, 0.3, 200_001)
    assert aupro(regions, normal) == pytest.approx(np.interp(grid, rates, overlaps).mean(), abs=1e-4)
    assert np.isnan(aupro([], normal))
    assert aupro([np.float32([1])], np.float32([1])) == pytest.approx(0.15)  # half of the way to (1, 1) at rate .3


def test_boxes_of_anomalies() -> None:
    mask = np.zeros((20, 40), bool)
    mask[np.arange(2, 10), np.arange(10, 18)] = True
    mask[4, 30] = True
    assert boxes_of(mask) == [(slice(2, 10), slice(10, 18)), (slice(4, 5), slice(30, 31))]
