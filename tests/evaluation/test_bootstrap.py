from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.bootstrap import METRICS, difference, estimate, over_seeds, patient_weights


def units(count: int = 60) -> pd.DataFrame:
    """Two images a patient, whose scores are alike; a good score and one of chance."""
    random = np.random.default_rng(0)
    label = np.repeat(random.integers(2, size=count), 2)
    shared = np.repeat(random.normal(size=count), 2)
    return pd.DataFrame(
        {
            "patient": np.repeat([f"p{number}" for number in range(count)], 2),
            "label": label,
            "good": label + shared + 0.3 * random.normal(size=2 * count),
            "chance": shared + random.normal(size=2 * count),
        }
    )


def test_whole_patients_are_drawn() -> None:
    table = units().sample(frac=1, random_state=1).reset_index(drop=True)
    weights = patient_weights(table["patient"], replicates=50)
    assert weights.shape == (50, len(table))
    for draw in weights:
        counts = pd.Series(draw).groupby(table["patient"])
        assert (counts.max() == counts.min()).all()
        assert counts.first().sum() == table["patient"].nunique()
    assert (weights == patient_weights(table["patient"], replicates=50)).all()
    assert (weights != patient_weights(table["patient"], replicates=50, seed=1)).any()


@pytest.mark.parametrize(("metric", "reference"), [("AUROC", roc_auc_score), ("AP", average_precision_score)])
def test_interval_is_that_of_an_independent_bootstrap(metric: str, reference: object) -> None:
    table = units()
    found = estimate(table, "good", metric, patient_weights(table["patient"], 2000))
    assert callable(reference)
    assert found.value == pytest.approx(reference(table["label"], table["good"]))

    random = np.random.default_rng(7)
    groups = [group for _, group in table.groupby("patient")]
    values = []
    for _ in range(1000):
        draw = pd.concat([groups[place] for place in random.integers(len(groups), size=len(groups))])
        if draw["label"].nunique() == 2:
            values.append(reference(draw["label"], draw["good"]))
    low, high = np.quantile(values, [0.025, 0.975])
    width = high - low
    assert found.low == pytest.approx(low, abs=0.12 * width)
    assert found.high == pytest.approx(high, abs=0.12 * width)


def test_drawing_patients_gives_wider_intervals_than_drawing_images() -> None:
    table = units()
    widths = []
    for groups in (table["patient"], table.index.astype(str).to_series()):
        found = estimate(table, "good", "AUROC", patient_weights(groups, 500))
        widths.append(found.high - found.low)
    assert widths[0] > 1.15 * widths[1]


def test_difference_is_taken_within_each_draw() -> None:
    table = units()
    weights = patient_weights(table["patient"], 500)
    found = difference(table, ("good", "chance"), "AUROC", weights)
    assert found.value == pytest.approx(
        roc_auc_score(table["label"], table["good"]) - roc_auc_score(table["label"], table["chance"])
    )
    assert found.low > 0
    assert difference(table, ("good", "good"), "AUROC", weights) == (0, 0, 0)
    back = difference(table, ("chance", "good"), "AUROC", weights)
    assert back == pytest.approx((-found.value, -found.high, -found.low))


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_lies_in_its_interval(metric: str) -> None:
    table = units()
    found = estimate(table, "good", metric, patient_weights(table["patient"], 300))
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_one_class_alone_has_no_interval() -> None:
    table = units().assign(label=0)
    with pytest.raises(XrayError, match="No draw of patients has normal and abnormal ones"):
        estimate(table, "good", "AUROC", patient_weights(table["patient"], 10))


def test_seeds_give_a_mean_and_a_deviation() -> None:
    mean, deviation = over_seeds({42: 0.6, 43: 0.8})
    assert (mean, deviation) == pytest.approx((0.7, np.sqrt(0.02)))
    assert np.isnan(over_seeds({42: 0.6})[1])
