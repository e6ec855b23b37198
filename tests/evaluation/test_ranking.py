from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.ranking import Ranking


def drawn(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and scores of 40 units and 66 weightings of them."""
    random = np.random.default_rng(seed)
    labels = random.integers(2, size=40)
    scores = random.integers(5, size=40).astype(float) if ties else random.normal(labels, 1)
    return labels, scores, random.integers(4, size=(66, 40)).astype(float)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_scikit_learn_for_every_weighting(seed: int, ties: bool) -> None:
    labels, scores, weights = drawn(seed, ties)
    ranking = Ranking(labels, scores)
    for metric, reference in ((ranking.auroc, roc_auc_score), (ranking.average_precision, average_precision_score)):
        assert metric()[0] == pytest.approx(reference(labels, scores))
        expected = [reference(labels, scores, sample_weight=weight) for weight in weights]
        np.testing.assert_allclose(metric(weights), expected)


@pytest.mark.parametrize("specificity", [0.0, 0.5, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("ties", [False, True])
def test_sensitivity_is_the_best_point_of_the_curve_that_keeps_the_specificity(specificity: float, ties: bool) -> None:
    labels, scores, weights = drawn(1, ties)
    found = Ranking(labels, scores).sensitivity(specificity, weights)
    for weight, value in zip(weights, found, strict=True):
        false, true, _ = roc_curve(labels, scores, sample_weight=weight, drop_intermediate=False)
        assert value == pytest.approx(true[1 - false >= specificity - 1e-9].max())


def test_curve_is_that_of_scikit_learn() -> None:
    labels, scores, _ = drawn(2, ties=True)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    normal, abnormal = Ranking(labels, scores).cumulative()
    np.testing.assert_allclose(normal[0] / normal[0, -1], false)
    np.testing.assert_allclose(abnormal[0] / abnormal[0, -1], true)


def test_a_class_that_is_not_drawn_gives_no_figure() -> None:
    ranking = Ranking([0, 0, 1], [1.0, 2.0, 3.0])
    weights = [[1, 1, 0], [0, 0, 1], [0, 1, 1]]
    np.testing.assert_array_equal(ranking.auroc(weights), [np.nan, np.nan, 1])
    np.testing.assert_array_equal(ranking.sensitivity(0.9, weights), [np.nan, np.nan, 1])
    np.testing.assert_array_equal(ranking.average_precision(weights), [np.nan, 1, 1])


def test_few_weightings_give_what_many_give() -> None:
    labels, scores, weights = drawn(3, ties=True)
    for metric in (Ranking.auroc, Ranking.average_precision, lambda ranking, some: ranking.sensitivity(0.9, some)):
        ranking = Ranking(labels, scores)  # one for all, so that each set of weights has to be counted anew
        few = np.concatenate([metric(ranking, weights[start : start + 11]) for start in range(0, 66, 11)])
        np.testing.assert_array_equal(metric(ranking, weights), few)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [1.0, 2.0, 3.0], "do not belong together"),
        ([0, 2], [1.0, 2.0], "neither 0 nor 1"),
        ([0, 1], [1.0, np.nan], "has no rank"),
    ],
)
def test_what_cannot_be_ranked_is_refused(labels: list[int], scores: list[float], message: str) -> None:
    with pytest.raises(XrayError, match=message):
        Ranking(labels, scores)


@pytest.mark.parametrize("seed", range(3))
def test_placements_are_shares_of_pairs(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels, scores = random.random(60) < 0.4, random.integers(0, 12, 60)  # with many ties
    pairs = (scores[labels][:, None] > scores[~labels]) + (scores[labels][:, None] == scores[~labels]) / 2
    ranking = Ranking(labels, scores)
    placements = ranking.placements()
    np.testing.assert_allclose(placements[labels], pairs.mean(1))
    np.testing.assert_allclose(placements[~labels], pairs.mean(0))
    assert placements[labels].mean() == pytest.approx(ranking.auroc()[0])


def test_decisions_are_counted_with_weights() -> None:
    random = np.random.default_rng(0)
    labels, called = random.random(40) < 0.3, random.random(40) < 0.4
    weights = random.integers(0, 3, (5, 40))
    found = Ranking(labels, random.normal(size=40)).decided(called, weights)
    for draw, weight in enumerate(weights):
        of = np.repeat(np.arange(40), weight)
        assert found["sensitivity"][draw] == pytest.approx(called[of][labels[of]].mean())
        assert found["specificity"][draw] == pytest.approx(1 - called[of][~labels[of]].mean())
        assert found["PPV"][draw] == pytest.approx(labels[of][called[of]].mean())
        assert found["NPV"][draw] == pytest.approx(1 - labels[of][~called[of]].mean())
    assert np.isnan(Ranking([0, 1], [0, 1]).decided([False, False])["PPV"]).all()
