"""Claims about rows, by simulation: models without any merit, and shortcuts that mean nothing or much."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from sklearn.metrics import average_precision_score, roc_auc_score

from anomalib_xray.evaluation.bootstrap import METRICS, patient_weights
from anomalib_xray.evaluation.shortcuts import SHORTCUTS as NUMBERS
from anomalib_xray.evaluation.shortcuts import direction_of
from anomalib_xray.experiments.grid import SHORTCUTS
from anomalib_xray.report import rows as module
from anomalib_xray.report.findings import findings_of
from anomalib_xray.report.parts import Part
from anomalib_xray.report.rows import FALSE_FINDINGS, Row, compare, measure

RUNS = 200
MODELS = ("Base", "A", "B", "C")

CLAIMS = {
    "above chance": r"^(?!.*(Chance alone|below chance))\w+( by \w+)? is highest",
    "beats": r"It beats the baseline",
    "differs": r"[1-9]\d* (is|are) clearly better than it|[1-9]\d* clearly worse",
    "leak": r"leak their label",
    "better than a shortcut": r"Every model is clearly better|Clearly better than (it|them)",
    "below": r"below chance",
}
"""Claims of a finding, and their words."""


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "patient_weights", partial(patient_weights, replicates=200))
    monkeypatch.setattr(module, "METRICS", {"AUROC": METRICS["AUROC"]})


def simulate(
    seed: int, signal: dict[str, float], *, validated: bool = True, abnormal: int = 20, patients: int = 40
) -> Part:
    """A part with normally distributed scores, those of the abnormal shifted by the signal."""
    random = np.random.default_rng(seed)
    label = np.arange(patients) < abnormal
    units = pd.DataFrame(
        {"id": map(str, range(patients)), "patient": [f"p{number}" for number in range(patients)], "label": label}
    )
    units["label"] = units["label"].astype(int)
    rows, draws = [], []
    for model, score in [*((SHORTCUTS, number) for number in NUMBERS), *((model, "own") for model in MODELS)]:
        strength = signal.get(score, signal.get(model, 0.0))
        validation, test = (strength * label + random.normal(size=patients) for _ in range(2))
        row = Row("hands", "raw", False, model, score)
        if model == SHORTCUTS:
            row.direction = direction_of(label, validation if validated else test)
        rows.append(row)
        draws.append(measure(row, {1: units.assign(score=row.direction * test)}))
    compare(rows, draws, "Base", FALSE_FINDINGS)
    return Part("hands", "raw", False, rows, {}, {}, "Base")


def slowly(metric: Callable[..., float], runs: dict[int, pd.DataFrame]) -> list[float]:
    """A metric's mean over the runs for each of 200 draws of patients, one unit, draw and run after the other."""
    of_patient = list(runs[1].groupby("patient").indices.values())
    found = []
    for draw in np.random.default_rng(0).integers(len(of_patient), size=(200, len(of_patient))):
        values = []
        for units in runs.values():
            rows = np.concatenate([of_patient[place] for place in draw])
            values.append(metric(units["label"].iloc[rows], units["score"].iloc[rows]))
        found.append(float(np.mean(values)))
    return found


def test_intervals_are_those_of_draws_made_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws of the same seed with scikit-learn's metrics, of patients with several units and of scores with ties."""
    monkeypatch.setattr(module, "METRICS", {name: METRICS[name] for name in ("AUROC", "AP")})
    random = np.random.default_rng(5)
    label = np.repeat(np.arange(14) % 2, 2)
    units = pd.DataFrame({"id": map(str, range(28)), "patient": np.repeat(list("nmlkjihgfedcba"), 2), "label": label})
    runs = {seed: units.assign(score=np.round(label + random.normal(size=28), 1)) for seed in (1, 2)}
    row = Row("hands", "raw", False, "A", "own")
    draws = measure(row, runs)
    assert draws is not None
    for name, metric in (("AUROC", roc_auc_score), ("AP", average_precision_score)):
        expected = slowly(metric, runs)
        np.testing.assert_allclose(draws.values[name][1], expected)
        ends = np.quantile(expected, [0.025, 0.975])
        np.testing.assert_allclose(row.estimates[name][1:], ends)


def claims_of(part: Part) -> set[str]:
    texts = [sentence.text for sentence in findings_of(part)]
    return {claim for claim, words in CLAIMS.items() if any(re.search(words, text) for text in texts)}


def claims_of_single_intervals(part: Part) -> set[str]:
    """Claims if every interval were the only one, and shortcuts were turned as suits them."""
    best = max(abs(row.estimates["AUROC"].value - 0.5) for row in part.shortcuts)
    found = {
        "leak": best + 0.5 >= part.models[0].estimates["AUROC"].value
        and not any(
            row.estimates["AUROC"].low <= 0.5 <= row.estimates["AUROC"].high
            for row in part.shortcuts
            if abs(row.estimates["AUROC"].value - 0.5) == best
        ),
        "above chance": part.models[0].estimates["AUROC"].low > 0.5,
        "differs": any(
            row.against["AUROC"].low > 0 or row.against["AUROC"].high < 0 for row in part.models if row.against
        ),
    }
    return {name for name, claimed in found.items() if claimed}


@pytest.mark.parametrize(
    ("signal", "false", "validated", "abnormal"),
    [
        ({}, set(CLAIMS), True, 20),
        ({}, set(CLAIMS), False, 8),
        # A leak, and models that see no more than it.
        (
            {"pixels": 1.5, **dict.fromkeys(MODELS, 1.5)},
            {"beats", "differs", "better than a shortcut", "below"},
            True,
            20,
        ),
    ],
    ids=["nothing", "nothing, few abnormal, direction from the test", "a leak"],
)
def test_false_findings_are_rare(signal: dict[str, float], false: set[str], validated: bool, abnormal: int) -> None:
    parts = [simulate(seed, signal, validated=validated, abnormal=abnormal) for seed in range(RUNS)]
    wrong = sum(bool(claims_of(part) & false) for part in parts)
    # So many of 200 are seen in one of a thousand simulations whose true share is 5 %.
    allowed = binom.isf(0.001, RUNS, FALSE_FINDINGS)
    assert wrong <= allowed
    if not signal:
        assert sum(bool(claims_of_single_intervals(part)) for part in parts) > 3 * allowed


def test_what_is_there_is_found() -> None:
    strong = {"A": 4.0, "B": 2.0, "C": -3.0, "pixels": -1.2}
    found = [claims_of(simulate(seed, strong, abnormal=60, patients=120)) for seed in range(20)]
    shares = {claim: sum(claim in one for one in found) / len(found) for claim in CLAIMS}
    assert min(shares.values()) > 0.5, shares


def test_a_leak_is_noted_at_the_models_that_are_not_clearly_better() -> None:
    part = simulate(3, {"pixels": -2.5, "A": 2.0})
    notes = {row.model: row.notes for row in part.models}
    assert "not clearly better than pixels" in notes["A"]
    (leak,) = [row for row in part.shortcuts if row.leaks]
    assert (leak.score, leak.direction) == ("pixels", -1)
    assert leak.estimates["AUROC"].value > 0.8
