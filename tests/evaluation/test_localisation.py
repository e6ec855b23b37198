from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from anomalib_xray.evaluation.localisation import hits_box, localisation


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
