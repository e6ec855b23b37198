from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from scipy.stats import betabinom, binomtest

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.conformal import (
    exact_interval,
    expected_false_alarms,
    measure_false_alarms,
    normal_patients,
    patients_of,
    promised_rank,
    promised_threshold,
)


@pytest.mark.parametrize("percent", [1, 5, 7, 10, 29, 33, 57])
def test_the_rank_is_the_formula_in_exact_fractions(percent: int) -> None:
    share = Fraction(percent, 100)
    for patients in range(1, 400):
        rank = ceil((patients + 1) * (1 - share))
        if rank > patients:
            needed = next(count for count in range(1, 400) if ceil((count + 1) * (1 - share)) <= count)
            with pytest.raises(XrayError, match=f"With {patients} normal .*validate on {needed} or more"):
                promised_rank(patients, percent / 100)
        else:
            assert promised_rank(patients, percent / 100) == rank
            assert expected_false_alarms(patients, percent / 100) == pytest.approx(1 - rank / (patients + 1))


@pytest.mark.parametrize(("patients", "share"), [(19, 0.05), (37, 0.1), (62, 0.05), (150, 0.1)])
def test_new_patients_alarm_as_often_as_the_formula_says(patients: int, share: float) -> None:
    random, held_out, draws = np.random.default_rng(0), 50, 1500
    shares = []
    for _ in range(draws):
        scores = random.standard_t(2, size=patients + held_out)  # any distribution; this one has heavy tails
        shares.append(measure_false_alarms(scores[:patients], scores[patients:], share).share.value)
    rank = promised_rank(patients, share)
    alarms = betabinom(held_out, patients + 1 - rank, rank)
    error = alarms.std() / held_out / np.sqrt(draws)
    expected = expected_false_alarms(patients, share)
    assert share - 1 / (patients + 1) < expected <= share + 1e-12
    assert alarms.mean() / held_out == pytest.approx(expected)
    assert np.mean(shares) == pytest.approx(expected, abs=4 * error)
    assert np.std(shares) == pytest.approx(alarms.std() / held_out, rel=0.1)


def test_patients_with_several_images_keep_the_promise_and_images_would_not() -> None:
    """With a patient's images alike, a threshold by images alarms for more patients than promised."""
    random, share, by_patient, by_image = np.random.default_rng(0), 0.1, [], []
    ids = np.repeat(np.arange(60), random.integers(1, 6, size=60))
    healthy = np.zeros(len(ids), bool)
    for _ in range(300):
        scores = random.normal(size=60)[ids] + 0.5 * random.normal(size=len(ids))
        highest = normal_patients(scores, ids, healthy)
        new = random.permutation(60) < 30
        by_patient.append(measure_false_alarms(highest[~new], highest[new], share).share.value)
        by_image.append(np.mean(highest[new] >= promised_threshold(scores[~new[ids]], share)))
    assert np.mean(by_patient) <= share
    assert np.mean(by_patient) > share - 1 / 31 - 0.01
    assert np.mean(by_image) > share + 0.02


def test_ties_with_the_threshold_give_no_alarm() -> None:
    for score in (0.1, float(np.float32(0.1)), -3.0, 0.0):
        scores = [score] * 12 + [9.0]
        threshold = promised_threshold(scores, 0.3)
        assert score < threshold <= score + 1e-6
        assert measure_false_alarms(scores, [score, score, 9.0], 0.3).share.value == pytest.approx(1 / 3)


def test_a_patient_counts_with_the_highest_score_and_only_if_all_images_are_normal() -> None:
    scores = np.array([[1, 5], [4, 2], [9, 9], [0, 0], [3, 3]])
    patients = patients_of(["a", "b", "c", "d", "e"], ["1", "1", "2", "2", ""])
    table = normal_patients(scores, patients, [False, False, True, False, False])
    np.testing.assert_array_equal(table, [[4, 5], [3, 3]])  # of patient 1 and of e


@pytest.mark.parametrize(("hits", "count"), [(0, 30), (2, 31), (17, 17)])
def test_the_interval_is_the_exact_one(hits: int, count: int) -> None:
    found = exact_interval(hits / count, count)
    expected = binomtest(hits, count).proportion_ci(0.95, method="exact")
    assert tuple(found) == pytest.approx((hits / count, expected.low, expected.high))


@pytest.mark.parametrize("share", [0, 1, -0.1, 5, float("nan")])
def test_what_cannot_be_promised_is_refused(share: float) -> None:
    with pytest.raises(XrayError, match="a share between 0 and 1"):
        promised_threshold([1.0, 2.0], share)


def test_nobody_to_count_on_is_said() -> None:
    with pytest.raises(XrayError, match="no held-out normal patient"):
        measure_false_alarms(range(20), [], 0.1)
    with pytest.raises(XrayError, match=r"With 0 normal validation patients .* validate on 9 or more\.$"):
        promised_threshold([], 0.1)
