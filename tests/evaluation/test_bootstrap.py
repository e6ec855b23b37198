from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import norm, t
from sklearn.metrics import average_precision_score, roc_auc_score

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.bootstrap import (
    METRICS,
    Estimate,
    interval,
    over_seeds,
    patient_weights,
    simultaneous,
    standard_error,
)  # fmt: skip
from anomalib_xray.evaluation.ranking import Ranking, Values


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


def estimate(table: pd.DataFrame, score: str, metric: str, weights: Values) -> Estimate:
    ranking = Ranking(table["label"], table[score])
    return interval(METRICS[metric](ranking, None)[0], METRICS[metric](ranking, weights))


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
    groups = list(table.groupby("patient").indices.values())
    label, score = table["label"].to_numpy(), table["good"].to_numpy()
    values = []
    for _ in range(1000):
        draw = np.concatenate([groups[place] for place in random.integers(len(groups), size=len(groups))])
        if len(set(label[draw])) == 2:
            values.append(reference(label[draw], score[draw]))
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


def test_joint_intervals_of_independent_figures_are_those_of_sidak() -> None:
    random = np.random.default_rng(0)
    figures = [(0.5 + 0.01 * place, 0.5 + 0.01 * place + 0.04 * random.normal(size=20000)) for place in range(12)]
    found = simultaneous(figures, patients=10**6)
    width = 0.04 * norm.isf((1 - 0.95 ** (1 / 12)) / 2)
    for (value, _), one in zip(figures, found, strict=True):
        assert one == pytest.approx((value, value - width, value + width), abs=0.004)
    # The same figure twelve times costs no more than once.
    (low,) = {round(one.low, 6) for one in simultaneous([figures[0]] * 12, patients=10**6)}
    assert low == pytest.approx(0.5 - 0.04 * norm.isf(0.025), abs=0.002)


def test_few_patients_widen_joint_intervals() -> None:
    replicates = 0.5 + 0.1 * np.random.default_rng(0).normal(size=4000)
    widths = [simultaneous([(0.5, replicates)], patients=count)[0].high - 0.5 for count in (5, 20, 10**6)]
    assert widths[0] > 1.3 * widths[2]
    assert widths[0] > widths[1] > widths[2]
    assert not np.isfinite(simultaneous([(0.5, replicates)], patients=1)[0].high)
    # Three patients of each class whose scores do not overlap: one ranking of twenty.
    (few,) = simultaneous([(1.0, np.ones(500))], patients=3)
    assert few.low < 0.5
    (many,) = simultaneous([(1.0, np.ones(500))], patients=30)
    assert many.low > 0.9


def brute_force_variance(labels: NDArray[np.bool_], *scores: NDArray[np.float64]) -> float:
    """DeLong et al. 1988, equations 4 to 6, pair by pair: variance of the first AUROC less the second."""
    signs = (1.0, -1.0)[: len(scores)]
    kernel = sum(
        sign * ((one[labels][:, None] > one[~labels]) + (one[labels][:, None] == one[~labels]) / 2)
        for sign, one in zip(signs, scores, strict=True)
    )
    return float(np.var(kernel.mean(1), ddof=1) / labels.sum() + np.var(kernel.mean(0), ddof=1) / (~labels).sum())


@pytest.mark.parametrize("seed", range(3))
def test_the_standard_error_is_that_of_delong(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.random(80) < 0.3
    first = (random.normal(labels, 1.0) * 4).round()  # with ties
    second = first + random.normal(size=80)
    placements = [Ranking(labels, one).placements() for one in (first, second)]
    assert standard_error(placements[0], labels) ** 2 == pytest.approx(brute_force_variance(labels, first))
    difference = standard_error(placements[0] - placements[1], labels)
    assert difference**2 == pytest.approx(brute_force_variance(labels, first, second))
    # Patients of one image each change nothing.
    assert standard_error(placements[0], labels, [*map(str, range(80))]) == standard_error(placements[0], labels)


def test_with_patients_the_standard_error_is_that_of_many_data_sets() -> None:
    random = np.random.default_rng(0)
    patients, images = 60, 4

    def draw() -> tuple[float, float, float]:
        level = np.repeat(random.normal(size=patients), images)
        labels = np.repeat(np.arange(patients) < 25, images)
        labels[:images] = [True, False, True, False]  # one patient has both
        ranking = Ranking(labels, level + labels + 0.5 * random.normal(size=len(labels)))
        owners = np.repeat(np.arange(patients), images).astype(str).tolist()
        placements = ranking.placements()
        errors = standard_error(placements, labels, owners), standard_error(placements, labels)
        return float(ranking.auroc()[0]), *errors

    values, by_patient, by_image = np.array([draw() for _ in range(400)]).T
    assert by_patient.mean() == pytest.approx(values.std(), rel=0.12)
    assert by_image.mean() < 0.6 * values.std()


def test_a_class_of_one_patient_has_no_standard_error() -> None:
    placements = Ranking([0, 0, 1, 1], [1, 2, 3, 4]).placements()
    assert np.isnan(standard_error(placements, [0, 0, 1, 1], ["a", "b", "c", "c"]))


@pytest.mark.parametrize(("patients", "level"), [(4, 0.95), (30, 0.9)])
def test_simultaneous_intervals_are_those_of_student(patients: int, level: float) -> None:
    drawn = np.random.default_rng(0).normal(0.7, 0.05, 999)
    (estimate,) = simultaneous([(0.7, drawn)], patients, level)
    error = max(drawn.std(), 0.5 / patients)
    largest = np.quantile(np.abs(drawn - 0.7) / error, level, method="higher")
    factor = t.isf(norm.sf(max(largest, norm.isf((1 - level) / 2))), patients - 1)
    assert estimate.high == pytest.approx(0.7 + factor * error)
