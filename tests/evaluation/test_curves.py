from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.metrics import roc_curve as reference_curve

from anomalib_xray.evaluation.bootstrap import patient_weights
from anomalib_xray.evaluation.curves import DRAWS, GRID, aurocs, has_both_classes, pr_curve, roc_curve


def make_run(seed: int) -> pd.DataFrame:
    """Two units of each of 20 patients, with ties."""
    random = np.random.default_rng(seed)
    label = np.repeat(np.arange(20) % 4 == 0, 2).astype(int)
    score = np.round(label + random.normal(size=40), 1)
    return pd.DataFrame({"patient": np.repeat([f"p{n:02}" for n in range(20)], 2), "label": label, "score": score})


RUNS = [make_run(1), make_run(2)]


def sensitivity(run: pd.DataFrame, weights: np.ndarray) -> np.ndarray:
    false, true, _ = reference_curve(run["label"], run["score"], sample_weight=weights, drop_intermediate=False)
    return np.interp(GRID, false, true)


def precision(run: pd.DataFrame, weights: np.ndarray) -> list[float]:
    """Of the highest threshold that flags enough of the abnormal units, one after the other."""
    found = []
    for share in GRID[1:]:
        for threshold in sorted(set(run["score"]), reverse=True):
            flagged = weights * (run["score"] >= threshold)
            abnormal = (flagged * run["label"]).sum()
            if abnormal >= share * (weights * run["label"]).sum() - 1e-9:
                found.append(abnormal / flagged.sum())
                break
    return found


def test_curves_are_means_over_seeds() -> None:
    ones = np.ones(40)
    np.testing.assert_allclose(roc_curve(RUNS).y, np.mean([sensitivity(run, ones) for run in RUNS], axis=0))
    np.testing.assert_allclose(pr_curve(RUNS).y, np.mean([precision(run, ones) for run in RUNS], axis=0))


def test_bands_are_what_drawn_patients_make_of_them() -> None:
    weights = patient_weights(RUNS[0]["patient"], DRAWS)
    drawn = [
        np.mean([sensitivity(run, one) for run in RUNS], axis=0) for one in weights if (one * RUNS[0]["label"]).any()
    ]
    assert len(drawn) < DRAWS or (weights @ RUNS[0]["label"]).all()
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    curve = roc_curve(RUNS)
    np.testing.assert_allclose(curve.low, low, atol=1e-9)
    np.testing.assert_allclose(curve.high, high, atol=1e-9)
    assert (curve.low <= curve.high).all()


def test_draws_without_a_class_are_left_out() -> None:
    label = [1, 0, 0, 0]
    run = pd.DataFrame({"patient": list("abcd"), "label": label, "score": [4.0, 3, 2, 1]})
    assert (patient_weights(run["patient"], DRAWS)[:, 0] == 0).any()
    for curve in (roc_curve([run]), pr_curve([run])):
        assert np.isfinite(np.stack(curve)).all()
        np.testing.assert_allclose(curve.y, 1)


def test_auroc_is_the_mean_of_the_seeds_within_its_interval() -> None:
    value, low, high = aurocs(RUNS)
    assert value == pytest.approx(np.mean([roc_auc_score(run["label"], run["score"]) for run in RUNS]))
    assert 0 <= low < value < high <= 1


def test_both_classes_are_needed_in_every_run() -> None:
    assert has_both_classes(RUNS)
    assert not has_both_classes([])
    assert not has_both_classes([RUNS[0], RUNS[0].assign(label=0)])
