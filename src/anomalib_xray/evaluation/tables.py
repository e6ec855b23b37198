"""What a benchmark found: a row for each model, data set and preparation, over its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.bootstrap import METRICS, Estimate, interval, over_seeds, patient_weights
from anomalib_xray.evaluation.cell import SCORES
from anomalib_xray.evaluation.plan import SHORTCUTS, Cell, Grid
from anomalib_xray.evaluation.ranking import Ranking, Values
from anomalib_xray.evaluation.runner import folder_of, read_result
from anomalib_xray.evaluation.shortcuts import SHORTCUTS as NUMBERS
from anomalib_xray.scores.levels import LEVELS, units_of

BELOW_CHANCE = 0.45
"""An AUROC below this says that normal looks more anomalous than abnormal: something is wrong."""

PIXEL = ("AUROC", "AUPRO", "Dice")
"""Metrics of anomaly maps against masks."""

Group = tuple[str, str, bool]


@dataclass
class Row:
    """One line of the table.

    Attributes:
        data: Name of the data set.
        preparation: Name of the preparation.
        equalize: Whether pictures were equalised.
        model: Name of the model.
        score: Name of the score.
        seeds: Value of each metric by seed.
        estimates: Mean of each metric over the seeds, with its interval over patients.
        against: Difference of each metric from the baseline's, with its interval; empty where there is no pair.
        prevalence: Share of abnormal units, which is chance for the average precision.
        costs: Means over the seeds: ``training_s``, ``testing_s``, ``images``, ``parameters``, ``gflop``,
            ``peak_memory_gib``.
        pixel: Mean and standard deviation over the seeds of ``AUROC``, ``AUPRO`` and ``Dice`` of the anomaly map; empty
            without masks or map.
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
    prevalence: float = nan
    costs: dict[str, float] = field(default_factory=dict)
    pixel: dict[str, tuple[float, float]] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class _Draws:
    """A score's metrics in every draw of patients, as means over the seeds."""

    ids: list[str]
    values: dict[str, tuple[float, Values]]


def read_rows(grid: Grid, out: Path) -> list[Row]:
    """Evaluates what is done.

    Args:
        grid: The benchmark.
        out: Its folder.

    Returns:
        Rows in the order of the grid; those without any finished cell have no figures.

    Raises:
        XrayError: A score that the grid names is not in a table.
    """
    groups: dict[Group, dict[str, list[Cell]]] = {}
    shortcuts: dict[tuple[str, str], list[Cell]] = {}
    for cell in grid.cells:
        if cell.model == SHORTCUTS:
            shortcuts.setdefault((cell.data, cell.preparation), []).append(cell)
        else:
            groups.setdefault((cell.data, cell.preparation, cell.equalize), {}).setdefault(cell.model, []).append(cell)
    rows: list[Row] = []
    for group, models in groups.items():
        names = [(SHORTCUTS, number) for number in NUMBERS]
        names += [(model, score) for model in models for score in grid.scores.get(model, ["pred_score"])]
        found = []
        for model, score in names:
            cells = shortcuts[group[:2]] if model == SHORTCUTS else models[model]
            found.append(_row(Row(*group, model, score), cells, grid, out))
        _compare([row for row, _ in found], [draws for _, draws in found], grid.baseline)
        rows += [row for row, _ in found]
    return rows


def _row(row: Row, cells: Sequence[Cell], grid: Grid, out: Path) -> tuple[Row, _Draws | None]:
    """Fills a row from its cells."""
    draws, costs, pixel, ids = [], [], {}, None
    for cell in cells:
        result = read_result(out, cell)
        if result is None:
            continue
        if result["status"] != "done":
            row.failures[cell.seed] = result["reason"]
            continue
        units = read_units(folder_of(out, cell) / SCORES, row.score, grid.level)
        ranking, weights = Ranking(units["label"], units["score"]), _weights(tuple(units["patient"]))
        row.prevalence = float(units["label"].mean())
        ids = units["id"].tolist()
        for name, metric in METRICS.items():
            row.seeds.setdefault(name, {})[cell.seed] = float(metric(ranking, None)[0])
        draws.append({name: metric(ranking, weights) for name, metric in METRICS.items()})
        pixel[cell.seed] = result.get("pixel") or {}
        costs.append({key: value for key, value in result.items() if isinstance(value, int | float)})
    if ids is None:
        return row, None
    if row.prevalence in (0, 1):
        row.notes.append("its test has one class only")
        return row, None
    values = {name: (over_seeds(row.seeds[name])[0], np.mean([one[name] for one in draws], axis=0)) for name in METRICS}
    row.estimates = {name: interval(*value) for name, value in values.items()}
    row.costs = {str(name): float(value) for name, value in pd.DataFrame(costs).mean().items()}
    row.pixel = {
        name: over_seeds({seed: metrics[name] for seed, metrics in pixel.items()})
        for name in PIXEL
        if all(name in metrics for metrics in pixel.values())
    }
    if row.model != SHORTCUTS and row.estimates["AUROC"].value < BELOW_CHANCE:
        row.notes.append("below chance")
    return row, _Draws(ids, values)


@lru_cache(maxsize=1)
def _weights(patients: tuple[str, ...]) -> Values:
    """The draws of patients, once for all rows and seeds of a test set, which stand one after the other."""
    return patient_weights(pd.Series(patients))


def read_units(path: Path, score: str, level: str) -> pd.DataFrame:
    """Reads a score of the units of evaluation.

    Args:
        path: The score table.
        score: Name of the score.
        level: ``image``, ``study`` or ``patient``.

    Returns:
        Columns ``id``, ``patient``, ``label`` (0 or 1) and ``score``, in the order of the ids.

    Raises:
        XrayError: The table has no such score, or does not say which unit an image belongs to.
    """
    table = _read_table(path)
    if score not in table:
        raise XrayError(f"{path} has no score {score}; it has {', '.join(table.columns[7:])}.")
    units = units_of(table, level, [score])
    if units is None:
        raise XrayError(f"{path} does not say which {level} an image belongs to; evaluate by image.")
    names = units[LEVELS[level]].agg("/".join, axis=1)
    return units.assign(id=names).rename(columns={score: "score"}).sort_values("id", ignore_index=True)


@lru_cache(maxsize=1)
def _read_table(path: Path) -> pd.DataFrame:
    """A score table, once for all its scores, whose rows stand one after the other."""
    return pd.read_csv(path, keep_default_na=False, na_values={"label": [""]}, dtype={"patient": str, "study": str})


def _compare(rows: Sequence[Row], draws: Sequence[_Draws | None], baseline: str | None) -> None:
    """Adds the differences from the baseline, and says where a number that needs no model does as well."""
    reference = next((one for row, one in zip(rows, draws, strict=True) if row.model == baseline), None)
    best = max((best_way(row) for row in rows if row.model == SHORTCUTS and row.estimates), default=nan)
    for row, one in zip(rows, draws, strict=True):
        if one is None or row.model == SHORTCUTS:
            continue
        if row.estimates["AUROC"].value <= best:
            row.notes.append("a shortcut does as well")
        if reference is not None and row.model != baseline and one.ids == reference.ids:
            row.against = {
                name: interval(value - reference.values[name][0], replicates - reference.values[name][1])
                for name, (value, replicates) in one.values.items()
            }


def best_way(row: Row) -> float:
    """AUROC of a number in the direction that tells the classes apart: which one that is needs no model either.

    Args:
        row: Row of a shortcut that has figures.

    Returns:
        The AUROC, 0.5 to 1.
    """
    value = row.estimates["AUROC"].value
    return max(value, 1 - value)


COLUMNS = (
    "data", "preparation", "equalize", "model", "score", "selection", "seeds", "AUROC", "AUROC_low", "AUROC_high",
    "AUROC_std", "AP", "prevalence", "sensitivity_at_90", "pixel_AUROC", "pixel_AUPRO", "pixel_Dice",
    "against_baseline", "against_low", "against_high",
    "training_s", "ms_an_image", "peak_memory_gib", "parameters", "gflop", "notes",
)  # fmt: skip
"""Columns of the table, as they stand in its CSV file."""


def as_frame(rows: Sequence[Row], grid: Grid) -> pd.DataFrame:
    """The rows as one table of plain values, see :data:`COLUMNS`."""
    return pd.DataFrame([_values(row, grid) for row in rows], columns=list(COLUMNS))


def _values(row: Row, grid: Grid) -> dict[str, Any]:
    auroc, against = row.estimates.get("AUROC"), row.against.get("AUROC")
    notes = [*row.notes, *(f"seed {seed} failed: {reason}" for seed, reason in row.failures.items())]
    if auroc is None and not notes:
        notes.append("not run yet")
    values: dict[str, Any] = {
        "data": row.data,
        "preparation": row.preparation,
        "equalize": row.equalize,
        "model": row.model,
        "score": row.score,
        "selection": "no model" if row.model == SHORTCUTS else grid.selection[row.model],
        "seeds": len(row.seeds.get("AUROC", {})),
        "prevalence": row.prevalence,
        "notes": "; ".join(notes),
    }
    if auroc is not None:
        values |= {"AUROC": auroc.value, "AUROC_low": auroc.low, "AUROC_high": auroc.high}
        values["AUROC_std"] = over_seeds(row.seeds["AUROC"])[1]
        values |= {name: row.estimates[name].value for name in ("AP", "sensitivity_at_90")}
    if against is not None:
        values |= {"against_baseline": against.value, "against_low": against.low, "against_high": against.high}
    values |= {f"pixel_{name}": value for name, (value, _) in row.pixel.items()}
    if "testing_s" in row.costs:
        values["ms_an_image"] = 1000 * row.costs["testing_s"] / row.costs["images"]
    return values | {key: row.costs[key] for key in COLUMNS if key in row.costs}
