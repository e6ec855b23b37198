"""What was run, when and where, and what did not run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import yaml

from anomalib_xray.evaluation.plan import SHORTCUTS, Cell, Grid
from anomalib_xray.evaluation.report.material import Material
from anomalib_xray.jobs import RESULT


class Failure(NamedTuple):
    """A cell without figures.

    Attributes:
        where: Data set, preparation and model.
        seed: Its seed.
        reason: Why.
    """

    where: str
    seed: int
    reason: str


def failures_of(material: Material) -> list[Failure]:
    """Cells that failed, in the order of the grid.

    Args:
        material: What the cells left.

    Returns:
        The failures.
    """
    cells = material.grid.all_cells
    results = [(cell, material.result(cell)) for cell in cells]
    return [
        Failure(_where(cell), cell.seed, str(result.get("reason", "no reason given")))
        for cell, result in results
        if result and result["status"] != "done"
    ]


def _where(cell: Cell) -> str:
    parts = [cell.data, cell.preparation, *(["equalised"] if cell.equalize else []), cell.model]
    return ", ".join([*parts, *([] if cell.training_size is None else [f"{cell.training_size} training images"])])


def facts_of(material: Material) -> dict[str, str]:
    """Facts about the run for a table.

    Args:
        material: What the cells left.

    Returns:
        Text by name. Dates are those of the results, so that the same results make the same report.
    """
    grid = material.grid
    cells = grid.all_cells
    results = [result for result in map(material.result, cells) if result]
    done = sum(result["status"] == "done" for result in results)
    failed = len(results) - done
    seeds = sorted({cell.seed for cell in grid.cells if cell.model != SHORTCUTS})
    hours = sum(float(result.get("training_s", 0)) for result in results) / 3600
    facts = {
        "Cells": f"{done} of {len(cells)} done, {failed} failed, {len(cells) - len(results)} not run",
        "Seeds of the models": _joined(seeds),
        "Unit of evaluation": grid.level,
        "Baseline": grid.baseline or "none",
        "Results from": _dates(material, cells),
        "Training, all cells": f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes",
        "Machine": _joined(sorted({result["machine"] for result in results if result.get("machine")}))
        or "not recorded",
        "Threads a cell": _joined(sorted({result["threads"] for result in results if "threads" in result}))
        or "not recorded",
    }
    return facts | _versions(result.get("versions", {}) for result in results)


def _versions(recorded: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Versions of packages; all of them where cells differ."""
    found: dict[str, set[str]] = {}
    for versions in recorded:
        for name, version in versions.items():
            found.setdefault(name, set()).add(version)
    return {name: _joined(sorted(versions)) for name, versions in found.items()}


def _dates(material: Material, cells: Iterable[Cell]) -> str:
    paths = [material.folder(cell) / RESULT for cell in cells]
    times = [path.stat().st_mtime for path in paths if path.is_file()]
    if not times:
        return "none yet"
    days = [datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d") for time in (min(times), max(times))]
    return days[0] if days[0] == days[1] else f"{days[0]} to {days[1]}"


def _joined(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def config_of(grid: Grid) -> str:
    """The grid as YAML: every setting of every model and data set, files that it names resolved.

    Args:
        grid: The benchmark.

    Returns:
        The text.
    """
    models: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for cell in grid.cells:
        data.setdefault(cell.data, cell.data_config)
        if cell.model != SHORTCUTS:
            models.setdefault(cell.model, _entry(cell, grid, data[cell.data]))
    content: dict[str, Any] = {
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
    return yaml.dump(content, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=110)


def _entry(cell: Cell, grid: Grid, data: Mapping[str, Any]) -> dict[str, Any]:
    common = data.get("init_args", {})
    own = {
        name: value
        for name, value in cell.data_config.get("init_args", {}).items()
        if name not in common or common[name] != value
    }
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


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002  # the signature is the parent's
        return True
