"""Facts about the run of a benchmark: when, where, with what settings, and what failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import yaml

from anomalib_xray.experiments.grid import SCORES, SHORTCUTS, Cell, Grid
from anomalib_xray.jobs import RESULT
from anomalib_xray.report.results import CellOutputs
from anomalib_xray.report.rows import part_title


class Failure(NamedTuple):
    """A cell without figures: data set, preparation and model, its seed, and why."""

    where: str
    seed: int
    reason: str


def failures_of(outputs: CellOutputs) -> list[Failure]:
    """Cells that failed, in the order of the grid."""
    return [
        Failure(_where(cell), cell.seed, str(result.get("reason", "no reason given")))
        for cell in outputs.grid.all_cells
        if (result := outputs.result(cell)) and result["status"] != "done"
    ]


def _where(cell: Cell) -> str:
    size = "" if cell.training_size is None else f", {cell.training_size} training images"
    return f"{part_title(cell.data, cell.preparation, cell.equalize)}, {cell.model}{size}"


def facts_of(outputs: CellOutputs) -> dict[str, str]:
    """Facts about the run by name. Dates are those of the results: the same results make the same report."""
    grid = outputs.grid
    cells = grid.all_cells
    results = [result for result in map(outputs.result, cells) if result]
    done = sum(result["status"] == "done" for result in results)
    hours = sum(float(result.get("training_s", 0)) for result in results) / 3600
    machines = joined(result["machine"] for result in results if result.get("machine"))
    threads = joined(result["threads"] for result in results if "threads" in result)
    trained = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
    facts = {
        "Cells": f"{done} of {len(cells)} done, {len(results) - done} failed, {len(cells) - len(results)} not run",
        "Seeds of the models": joined(cell.seed for cell in grid.cells if cell.model != SHORTCUTS),
        "Unit of evaluation": grid.level,
        "Baseline": grid.baseline or "none",
        "Results from": _dates(outputs, cells),
        "Training, all cells": trained if hours else "not recorded",
        "Machine": machines or "not recorded",
        "Threads a cell": threads or "not recorded",
    }
    versions: dict[str, list[str]] = {}
    for result in results:
        for name, version in result.get("versions", {}).items():
            versions.setdefault(name, []).append(version)
    return facts | {name: joined(found) for name, found in versions.items()}


def _dates(outputs: CellOutputs, cells: Iterable[Cell]) -> str:
    paths = [outputs.folder(cell) / name for cell in cells for name in (RESULT, SCORES)]
    times = [path.stat().st_mtime for path in paths if path.is_file()]
    if not times:
        return "none yet"
    days = [datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d") for time in (min(times), max(times))]
    return days[0] if days[0] == days[1] else f"{days[0]} to {days[1]}"


def joined(values: Iterable[Any]) -> str:
    """All different values, sorted."""
    return ", ".join(map(str, sorted(set(values))))


def config_of(grid: Grid) -> str:
    """The grid as YAML: every setting of every model and data set, files that it names resolved."""
    models: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for cell in grid.cells:
        data.setdefault(cell.data, cell.data_config)
        if cell.model != SHORTCUTS:
            models.setdefault(cell.model, _entry(cell, grid, data[cell.data]))
    content = {
        "title": grid.title,
        "level": grid.level,
        "baseline": grid.baseline,
        "seeds": sorted({cell.seed for cell in grid.cells if cell.model != SHORTCUTS}),
        "preparations": {name: None if path is None else str(path) for name, path in grid.preparations.items()},
        "equalize": sorted({cell.equalize for cell in grid.cells if cell.model != SHORTCUTS}),
        "training_sizes": sorted({cell.training_size for cell in grid.curve_cells if cell.training_size}),
        "data": data,
        "models": models,
    }
    # Aliases, which YAML writes for settings that models share, help a machine and not a reader.
    return yaml.dump(content, Dumper=_WithoutAliases, sort_keys=False, allow_unicode=True, width=110)


def _entry(cell: Cell, grid: Grid, data: Mapping[str, Any]) -> dict[str, Any]:
    common = data.get("init_args", {})
    settings = cell.data_config.get("init_args", {})
    own = {name: value for name, value in settings.items() if name not in common or common[name] != value}
    entry = {
        **cell.model_config,
        "data": own,
        "trainer": cell.trainer,
        "scores": grid.scores.get(cell.model),
        "selection": grid.selection.get(cell.model),
        "image_size": cell.image_size,
        "weights": cell.weights,
    }
    return {name: value for name, value in entry.items() if value not in (None, {})}


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # the signature is the parent's
        return True
