"""Rows of a benchmark's tables: figures, comparisons and claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import nan

import numpy as np
import pandas as pd

from anomalib_xray.evaluation.bootstrap import (
    METRICS,
    Estimate,
    interval,
    over_seeds,
    patient_weights,
    simultaneous,
    standard_error,
)
from anomalib_xray.evaluation.conformal import exact_interval
from anomalib_xray.evaluation.ranking import Ranking, Values
from anomalib_xray.experiments.grid import SHORTCUTS

FALSE_FINDINGS = 0.05
"""Largest chance of any false claim in a whole report."""

NORMAL_95 = 1.959964
"""Half of a 95 % interval of a normal distribution, in standard deviations."""


def part_title(data: str, preparation: str, equalize: bool) -> str:
    """Title of a part of a benchmark.

    >>> part_title("hands", "full", True)
    'hands, full, equalised'
    """
    return f"{data}, {preparation}{', equalised' if equalize else ''}"


@dataclass
class Row:
    """A row of the table.

    Attributes:
        data, preparation, equalize, model, score: The key of the row.
        seeds: Value of each metric by seed.
        estimates: Mean of each metric over the seeds, with its interval over patients.
        against: Difference of each metric from the baseline's, with its interval; empty without a pair.
        joint: AUROC (``AUROC``), its difference from the baseline's (``against``) and from each shortcut's (by the
            shortcut's name), with intervals that hold together over all rows of the report, for claims.
        analytic: AUROC (``AUROC``) and its difference from the baseline's (``against``), with intervals without draws,
            as a cross-check.
        decisions: Sensitivity, specificity, PPV and NPV of the model's own decisions, with intervals over patients;
            empty where it does not decide.
        counts: Means over the seeds of the decisions: ``TP``, ``FP``, ``FN``, ``TN``.
        direction: -1 for a shortcut of which small numbers are abnormal; its figures are those of that direction.
        prevalence: Share of abnormal units: chance level of the average precision.
        costs: Means over the seeds: ``training_s``, ``testing_s``, ``images``, ``parameters``, ``gflop``,
            ``peak_memory_gib``, ``labelled_images`` of a model that trained with some.
        pixel: Mean and standard deviation over the seeds of ``AUROC``, ``AUPRO`` and ``Dice`` of the anomaly map, and
            of ``hit``, ``found_at_1`` and ``FROC`` by lesions; empty without masks or map.
        failures: Reason of each seed that failed.
        notes: Warnings.
    """

    data: str
    preparation: str
    equalize: bool
    model: str
    score: str
    seeds: dict[str, dict[int, float]] = field(default_factory=dict)
    estimates: dict[str, Estimate] = field(default_factory=dict)
    against: dict[str, Estimate] = field(default_factory=dict)
    joint: dict[str, Estimate] = field(default_factory=dict)
    analytic: dict[str, Estimate] = field(default_factory=dict)
    decisions: dict[str, Estimate] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    direction: int = 1
    prevalence: float = nan
    costs: dict[str, float] = field(default_factory=dict)
    pixel: dict[str, tuple[float, float]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def side(self, name: str, of: float = 0.0) -> int:
        """Side of a value on which a joint interval lies: 1 above, -1 below, 0 if it holds it or is missing."""
        found = self.joint.get(name)
        return 0 if found is None else int(found.low > of) - int(found.high < of)

    @property
    def uses_labels(self) -> bool:
        """Whether the model trained with labelled abnormal images, which sets it apart from those that did not."""
        return self.costs.get("labelled_images", 0) > 0

    @property
    def leaks(self) -> bool:
        """Whether this is a shortcut that clearly tells the classes apart."""
        return self.model == SHORTCUTS and self.side("AUROC", 0.5) > 0


@dataclass
class Draws:
    """A score's metrics in every draw of patients, and its placements, as means over the seeds."""

    ids: list[str]
    units: pd.DataFrame  # of one seed
    patients: int  # of the smaller class
    values: dict[str, tuple[float, Values]]
    placements: Values


def measure(row: Row, runs: Mapping[int, pd.DataFrame]) -> Draws | None:
    """Fills in the metrics of a row from its units by seed (``id``, ``patient``, ``label`` and ``score``).

    Returns:
        The metrics in every draw; ``None`` without a run, or with one class only.
    """
    if not runs:
        return None
    draws, decided, placements = [], [], []
    decides = all("decision" in units for units in runs.values())
    for seed, units in runs.items():
        ranking, weights = Ranking(units["label"], units["score"]), _weights(tuple(units["patient"]))
        row.prevalence = float(units["label"].mean())
        for name, metric in METRICS.items():
            row.seeds.setdefault(name, {})[seed] = float(metric(ranking, None)[0])
        draws.append({name: metric(ranking, weights) for name, metric in METRICS.items()})
        placements.append(ranking.placements())
        if decides:
            decided.append((ranking.decided(units["decision"]), ranking.decided(units["decision"], weights)))
    if row.prevalence in (0, 1):
        row.notes.append("its test has one class only")
        return None
    values = {name: (over_seeds(row.seeds[name])[0], np.mean([one[name] for one in draws], axis=0)) for name in METRICS}
    row.estimates = {name: interval(*value) for name, value in values.items()}
    patients = units.groupby("label")["patient"].nunique()
    if decides:
        _decide(row, decided, list(runs.values()))
    mean = np.mean(placements, axis=0)
    row.analytic["AUROC"] = _analytic(values["AUROC"][0], mean, units)
    return Draws(units["id"].tolist(), units, int(patients.min()), values, mean)


def _analytic(value: float, placements: Values, units: pd.DataFrame) -> Estimate:
    """The interval by the standard error over patients."""
    width = NORMAL_95 * standard_error(placements, units["label"], units["patient"].tolist())
    return Estimate(value, value - width, value + width)


def _decide(row: Row, decided: Sequence[tuple[dict[str, Values], dict[str, Values]]], runs: list[pd.DataFrame]) -> None:
    """Fills in the shares of right decisions, as means over the seeds.

    Where all or none are right, every draw says the same; the exact interval of independent patients stands there.
    """
    units = runs[0]
    label, called = units["label"] == 1, np.mean([run["decision"] for run in runs], axis=0)
    row.counts = {
        "TP": float(called[label].sum()),
        "FP": float(called[~label].sum()),
        "FN": float((1 - called)[label].sum()),
        "TN": float((1 - called)[~label].sum()),
    }
    of = {"sensitivity": label, "specificity": ~label, "PPV": called > 0, "NPV": called < 1}
    for name, places in of.items():
        value = float(np.mean([one[name][0] for one, _ in decided]))
        if not np.isfinite(value):
            continue
        if value in (0, 1):
            row.decisions[name] = exact_interval(value, units["patient"][places].nunique())
        else:
            row.decisions[name] = interval(value, np.mean([drawn[name] for _, drawn in decided], axis=0))


@lru_cache(maxsize=1)
def _weights(patients: tuple[str, ...]) -> Values:
    """Draws of patients, once for all rows and seeds of a test set, which follow each other."""
    return patient_weights(pd.Series(patients))


def compare(rows: Sequence[Row], draws: Sequence[Draws | None], baseline: str | None, false: float) -> None:
    """Compares the rows of one part with chance, with the baseline and with the shortcuts, and adds notes.

    Args:
        rows: The rows, shortcuts included.
        draws: Result of :func:`measure` for each.
        baseline: Model whose first score the others are compared with.
        false: Chance that any of the joint intervals leaves out its true value.
    """
    measured = [(row, one) for row, one in zip(rows, draws, strict=True) if one is not None]
    reference = next((one for row, one in measured if row.model == baseline), None)
    shortcuts = [(row.score, one) for row, one in measured if row.model == SHORTCUTS]
    claims: list[tuple[Row, str, tuple[float, Values]]] = []
    for row, one in measured:
        claims.append((row, "AUROC", one.values["AUROC"]))
        if row.model == SHORTCUTS:
            continue
        if reference is not None and row.model != baseline and one.ids == reference.ids:
            differences = {name: _minus(value, reference.values[name]) for name, value in one.values.items()}
            row.against = {name: interval(*value) for name, value in differences.items()}
            claims.append((row, "against", differences["AUROC"]))
            row.analytic["against"] = _analytic(
                differences["AUROC"][0], one.placements - reference.placements, one.units
            )
        claims += [
            (row, number, _minus(one.values["AUROC"], other.values["AUROC"]))
            for number, other in shortcuts
            if one.ids == other.ids
        ]
    if not claims:
        return
    joint = simultaneous([figure for *_, figure in claims], min(one.patients for _, one in measured), 1 - false)
    for (row, name, _), estimate in zip(claims, joint, strict=True):
        row.joint[name] = estimate
    leaks = [row for row, _ in measured if row.leaks]
    for row, _ in measured:
        row.notes += _notes(row, leaks)


def _minus(first: tuple[float, Values], second: tuple[float, Values]) -> tuple[float, Values]:
    return first[0] - second[0], first[1] - second[1]


def _notes(row: Row, leaks: Sequence[Row]) -> list[str]:
    """Claims that the joint intervals of a row allow."""
    if row.model == SHORTCUTS:
        return ["tells the classes apart"] if row.leaks else []
    notes = ["below chance"] if row.side("AUROC", 0.5) < 0 else []
    as_good = [leak.score for leak in leaks if row.side(leak.score) <= 0]
    return [*notes, f"not clearly better than {', '.join(as_good)}"] if as_good else notes
