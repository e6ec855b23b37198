"""Results of a benchmark: a row per model, data set and preparation, over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

import pandas as pd

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.bootstrap import over_seeds
from anomalib_xray.evaluation.conformal import normal_patients_of
from anomalib_xray.evaluation.ranking import Values
from anomalib_xray.evaluation.shortcuts import SHORTCUTS as NUMBERS
from anomalib_xray.evaluation.shortcuts import direction_of
from anomalib_xray.evaluation.units import (
    CHOSEN,
    DECISION,
    LEVELS,
    VALIDATION_SCORES,
    check_score,
    read_scores,
    units_of,
)
from anomalib_xray.experiments.grid import SCORES, SHORTCUTS, Cell, Grid
from anomalib_xray.experiments.run_grid import folder_of
from anomalib_xray.jobs import read_result
from anomalib_xray.report.rows import FALSE_FINDINGS, Draws, Row, compare, measure

UNVALIDATED = "direction chosen on the test images"
"""Note of a shortcut without validation images of both classes."""

PIXEL = ("AUROC", "AUPRO", "Dice")
"""Metrics of anomaly maps against masks."""

LESIONS = ("hit", "found_at_1", "FROC")
"""The same by lesions, see :meth:`anomalib_xray.experiments.evidence.Evidence.write`."""


class CellOutputs:
    """Results and scores of the cells of a benchmark, each read once.

    Args:
        grid: The cells.
        out: Folder of the benchmark.
        runs: Folder of each cell by its key, where the cells are runs of the stock command.
    """

    def __init__(self, grid: Grid, out: Path, runs: Mapping[str, Path] | None = None) -> None:
        self.grid = grid
        self.folders = {cell.key: folder_of(out, cell) for cell in grid.all_cells} if runs is None else runs
        self.results = {key: read_result(folder) for key, folder in self.folders.items()}
        self._read = lru_cache(maxsize=256)(self._units)
        self._normal = lru_cache(maxsize=256)(_normal_patients)

    def done(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells that were finished."""
        return [cell for cell in cells if self.result(cell).get("status") == "done"]

    def result(self, cell: Cell) -> dict[str, Any]:
        """Result of a cell, empty if it has not run."""
        return self.results[cell.key] or {}

    def folder(self, cell: Cell) -> Path:
        """The folder of a cell."""
        return self.folders[cell.key]

    def units(self, cell: Cell, score: str) -> pd.DataFrame:
        """Units of evaluation of a finished cell, see :func:`read_units`."""
        return self._read(self.folder(cell) / SCORES, score)

    def normal_patients(self, cells: Sequence[Cell], score: str) -> list[tuple[Values, Values]]:
        """Scores of normal patients of validation and test, of each finished cell; empty unless all validated."""
        folders = [self.folder(cell) for cell in self.done(cells)]
        if not all((folder / VALIDATION_SCORES).is_file() for folder in folders):
            return []
        return [self._normal(folder, score) for folder in folders]

    def _units(self, path: Path, score: str) -> pd.DataFrame:
        return read_units(path, score, self.grid.level)


def _normal_patients(folder: Path, score: str) -> tuple[Values, Values]:
    validation, test = (normal_patients_of(read_scores(folder / name), score) for name in (VALIDATION_SCORES, SCORES))
    return validation, test


def read_rows(outputs: CellOutputs) -> list[Row]:
    """Evaluates the finished cells.

    Returns:
        Rows in the order of the grid; those without a finished cell have no figures.
    """
    grid = outputs.grid
    parts = dict.fromkeys(
        (cell.data, cell.preparation, cell.equalize) for cell in grid.cells if cell.model != SHORTCUTS
    )
    rows: list[Row] = []
    for part in parts:
        cells = by_model(grid.cells, part)
        names = [(SHORTCUTS, number) for number in NUMBERS if SHORTCUTS in cells]
        names += [(model, score) for model in cells if model != SHORTCUTS for score in grid.scores.get(model, [CHOSEN])]
        found = [_row(Row(*part, model, score), cells[model], outputs) for model, score in names]
        # Findings of several parts are findings of one report.
        compare([row for row, _ in found], [draws for _, draws in found], grid.baseline, FALSE_FINDINGS / len(parts))
        rows += [row for row, _ in found]
    return rows


def by_model(cells: Sequence[Cell], part: tuple[str, str, bool]) -> dict[str, list[Cell]]:
    """Cells of a part by model; shortcuts belong to the equalised pictures as well."""
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        if (cell.data, cell.preparation) == part[:2] and (cell.equalize == part[2] or cell.model == SHORTCUTS):
            found.setdefault(cell.model, []).append(cell)
    return found


def _row(row: Row, cells: Sequence[Cell], outputs: CellOutputs) -> tuple[Row, Draws | None]:
    """Fills a row from its cells."""
    runs, costs, pixel = {}, [], {}
    for cell in cells:
        result = outputs.result(cell)
        if not result:
            continue
        if result["status"] != "done":
            row.failures[cell.seed] = result["reason"]
            continue
        runs[cell.seed] = outputs.units(cell, row.score)
        if row.model == SHORTCUTS:
            runs[cell.seed] = _in_direction(row, runs[cell.seed], result.get("directions", {}))
        pixel[cell.seed] = result.get("pixel") or {}
        costs.append({key: value for key, value in result.items() if isinstance(value, int | float)})
    draws = measure(row, runs)
    if draws is not None:
        row.costs = {str(name): float(value) for name, value in pd.DataFrame(costs).mean().items()}
        if row.uses_labels:
            labelled = row.costs["labelled_images"]
            row.notes.append(f"a category of its own: trained with {labelled:.0f} labelled abnormal images")
        row.pixel = {
            name: over_seeds({seed: metrics[name] for seed, metrics in pixel.items()})
            for name in (*PIXEL, *LESIONS)
            if all(name in metrics for metrics in pixel.values())
        }
    return row, draws


def _in_direction(row: Row, units: pd.DataFrame, directions: Mapping[str, int]) -> pd.DataFrame:
    """Units of a shortcut in the direction of the validation images, or else in the better one of the test."""
    if row.score in directions:
        row.direction = directions[row.score]
    elif units["label"].nunique() == 2:
        row.direction = direction_of(units["label"], units["score"])
        row.notes.append(UNVALIDATED)
    if row.direction < 0:
        row.notes.append("small ones are abnormal")
    return units.assign(score=row.direction * units["score"])


def read_units(path: Path, score: str, level: str) -> pd.DataFrame:
    """Reads a score of the units of evaluation (images, studies or patients).

    Returns:
        Columns ``id``, ``patient``, ``label`` (0 or 1), ``score``, and where the model decides ``decision``: whether
        one of a unit's images is anomalous at its threshold. They are in the order of the ids.
    """
    table = _read_table(path)
    check_score(table, score, path)
    decides = DECISION in table and bool(table[DECISION].notna().all())
    units = units_of(table, level, [score, DECISION] if decides else [score])
    if units is None:
        raise XrayError(f"{path} does not say which {level} an image belongs to; evaluate by image.")
    names = reduce(lambda first, second: first + "/" + second, (units[column] for column in LEVELS[level]))
    if "patient" in units:  # images of unknown patients count as one patient each
        units["patient"] = units["patient"].where(units["patient"].notna() & (units["patient"] != ""), names)
    if decides:  # the mean over the images of a study or patient
        units = units.assign(decision=units.pop(DECISION) > 0)
    # Plain objects: draws are kept by patients, and pandas hands out its own strings one by one.
    plain = {name: units[name].astype(object) for name in ("patient",) if name in units}
    return (
        units.assign(id=names.astype(object), **plain)
        .rename(columns={score: "score"})
        .sort_values("id", ignore_index=True)
    )


_read_table = lru_cache(maxsize=1)(read_scores)
"""Reads a score table once for all its scores, whose rows follow each other."""


COLUMNS = (
    "data", "preparation", "equalize", "model", "score", "selection", "seeds", "AUROC", "AUROC_low", "AUROC_high",
    "AUROC_std", "AP", "prevalence", "sensitivity_at_90", "pixel_AUROC", "pixel_AUPRO", "pixel_Dice",
    "hit", "found_at_1", "FROC",
    "against_baseline", "against_low", "against_high",
    "training_s", "ms_an_image", "peak_memory_gib", "parameters", "gflop", "notes",
)  # fmt: skip
"""Columns of ``results.csv``."""


def as_frame(rows: Sequence[Row], grid: Grid) -> pd.DataFrame:
    """The rows as a table, see :data:`COLUMNS`."""
    return pd.DataFrame([_values(row, grid) for row in rows], columns=list(COLUMNS))


def _values(row: Row, grid: Grid) -> dict[str, Any]:
    auroc = row.estimates.get("AUROC")
    notes = list(row.notes)
    if side := row.side("against"):
        notes.append(f"clearly {'better' if side > 0 else 'worse'} than {grid.baseline}")
    notes += [f"seed {seed} failed: {reason}" for seed, reason in row.failures.items()]
    if auroc is None and not notes:
        notes.append("not run yet")
    values: dict[str, Any] = {
        **{name: getattr(row, name) for name in ("data", "preparation", "equalize", "model", "score", "prevalence")},
        "selection": "no model" if row.model == SHORTCUTS else grid.selection[row.model],
        "seeds": len(row.seeds.get("AUROC", {})),
        "notes": "; ".join(notes),
    }
    if auroc is not None:
        values |= {"AUROC": auroc.value, "AUROC_low": auroc.low, "AUROC_high": auroc.high}
        values["AUROC_std"] = over_seeds(row.seeds["AUROC"])[1]
        values |= {name: row.estimates[name].value for name in ("AP", "sensitivity_at_90")}
    if against := row.against.get("AUROC"):
        values |= {"against_baseline": against.value, "against_low": against.low, "against_high": against.high}
    values |= {f"pixel_{name}" if name in PIXEL else name: value for name, (value, _) in row.pixel.items()}
    if "testing_s" in row.costs:
        values["ms_an_image"] = 1000 * row.costs["testing_s"] / row.costs["images"]
    return values | {key: row.costs[key] for key in COLUMNS if key in row.costs}
