"""The report of a benchmark: one HTML file that holds everything it shows."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from anomalib_xray import NOTICE
from anomalib_xray.experiments.grid import SCORES, SHORTCUTS, Cell, Grid
from anomalib_xray.io.progress import status
from anomalib_xray.io.write import write_atomically
from anomalib_xray.jobs import RESULT
from anomalib_xray.report.cases import KINDS, Case, read_cases
from anomalib_xray.report.charts import draw_costs, draw_curves, draw_histograms, draw_top_k, draw_training_size
from anomalib_xray.report.findings import Sentence, caution, findings_of
from anomalib_xray.report.page_tables import (
    Table,
    alarm_table,
    cost_table,
    main_table,
    overview,
    pixel_table,
    published_tables,
)
from anomalib_xray.report.parts import Part, parts_of
from anomalib_xray.report.results import CellOutputs
from anomalib_xray.report.rows import Row, part_title
from anomalib_xray.report.svg import Figure

REPORT = "report.html"

PICTURE_BYTES = 5_000_000
"""Most that pictures of cases take in the file; what is beyond is left out, and the report says so."""

MODELS_WITH_CASES = 3


@dataclass
class PartView:
    """Contents of the report for one part, under the names that the template uses."""

    title: str
    summary: str
    findings: list[Sentence]
    main: Table
    curves: list[Figure] = field(default_factory=list)
    small_curves: list[Figure] = field(default_factory=list)
    histograms: list[Figure] = field(default_factory=list)
    top_k: list[Figure] = field(default_factory=list)
    training_size: Figure | None = None
    pixel: Table | None = None
    alarms: Table | None = None
    cases: list[tuple[str, list[Case]]] = field(default_factory=list)
    cost_figure: Figure | None = None
    costs: Table | None = None


def write_report(rows: Sequence[Row], outputs: CellOutputs, out: Path) -> Path:
    """Writes OUT/report.html: one file with all figures, curves and pictures, which loads nothing.

    The same results make the same file.

    Raises:
        XrayError: What a cell left cannot be read, or the file cannot be written.
    """
    grid, parts = outputs.grid, parts_of(rows, outputs.grid)
    with status("Writing the report"):
        views = [_view(part, outputs) for part in parts]
    left_out = _limit_pictures(views)
    loader = PackageLoader(__package__, "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = loader.get_source(environment, "sort.js")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    rules = dict.fromkeys(grid.selection.values())
    text = environment.get_template("report.html.j2").render(
        title=grid.title,
        notice=NOTICE,
        level=grid.level,
        baseline=grid.baseline,
        views=views,
        caution=caution(parts),
        overview=overview(parts),
        selections={rule: [model for model in grid.selection if grid.selection[model] == rule] for rule in rules},
        published=published_tables(parts),
        failures=failures_of(outputs),
        facts=facts_of(outputs),
        config=config_of(grid),
        left_out=left_out,
        kinds=KINDS,
        absent=[sentence for name, sentence in _ABSENT.items() if not any(getattr(view, name) for view in views)],
        script=script,
        script_hash=f"sha256-{digest}",
        seeds=len({cell.seed for cell in grid.cells if cell.model != SHORTCUTS}),
    )
    write_atomically(out / REPORT, text)
    return out / REPORT


_ABSENT = {
    "curves": "ROC and precision-recall curves: no model has both classes in its test.",
    "top_k": "AUROC against k: no cell left a table of the largest values of its maps.",
    "training_size": "AUROC against training size: the grid trains no model on a part of the images.",
    "pixel": "Pixel figures: no cell measured maps against masks.",
    "alarms": "False alarms: no cell kept the scores of its validation.",
    "cases": "Best and worst cases: no cell left pictures.",
    "cost_figure": "AUROC against GFLOP: no cell counted them.",
}
"""Sentences in place of contents that no part has."""


def _view(part: Part, outputs: CellOutputs) -> PartView:
    """Draws everything of one part."""
    curves, small = draw_curves(part, outputs)
    return PartView(
        title=part.title,
        summary=_summary(part, outputs),
        findings=findings_of(part),
        main=main_table(part, outputs.grid.selection),
        curves=curves,
        small_curves=small,
        histograms=draw_histograms(part, outputs),
        top_k=draw_top_k(part, outputs),
        training_size=draw_training_size(part, outputs),
        pixel=pixel_table(part),
        alarms=alarm_table(part, outputs),
        cases=_cases(part, outputs),
        cost_figure=draw_costs(part),
        costs=cost_table(part),
    )


def _summary(part: Part, outputs: CellOutputs) -> str:
    """Counts of test units, patients and models."""
    for row in part.models:
        for cell in outputs.done(part.cells[row.model]):
            units = outputs.units(cell, row.score)
            patients = units["patient"].nunique()
            whose = "" if outputs.grid.level == "patient" else f" of {patients} patients"
            names = {"image": "images", "study": "studies", "patient": "patients"}
            return (
                f"{len(units)} test {names[outputs.grid.level]}{whose}, {units['label'].mean():.1%} abnormal; "
                f"{len(part.leaders)} model{'' if len(part.leaders) == 1 else 's'}"
            )
    return "no finished model"


def _cases(part: Part, outputs: CellOutputs) -> list[tuple[str, list[Case]]]:
    """Cases of the highest models that left any, of the first seed that did."""
    found = []
    for row in part.leaders:
        for cell in outputs.done(part.cells[row.model]):
            cases = read_cases(outputs.folder(cell))
            if cases:
                found.append((f"{row.model}, seed {cell.seed}", cases))
                break
        if len(found) == MODELS_WITH_CASES:
            break
    return found


def _limit_pictures(views: Sequence[PartView]) -> int:
    """Leaves out cases beyond the space for pictures, those of lower models first, and counts them."""
    room, left_out = PICTURE_BYTES, 0
    for place in range(MODELS_WITH_CASES):
        for view in views:
            if place >= len(view.cases):
                continue
            name, cases = view.cases[place]
            kept = []
            for case in cases:
                room -= len(case.uri)
                if room >= 0:
                    kept.append(case)
            left_out += len(cases) - len(kept)
            view.cases[place] = (name, kept)
    return left_out


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
    machines = _joined(result["machine"] for result in results if result.get("machine"))
    threads = _joined(result["threads"] for result in results if "threads" in result)
    trained = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
    facts = {
        "Cells": f"{done} of {len(cells)} done, {len(results) - done} failed, {len(cells) - len(results)} not run",
        "Seeds of the models": _joined(cell.seed for cell in grid.cells if cell.model != SHORTCUTS),
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
    return facts | {name: _joined(found) for name, found in versions.items()}


def _dates(outputs: CellOutputs, cells: Iterable[Cell]) -> str:
    paths = [outputs.folder(cell) / name for cell in cells for name in (RESULT, SCORES)]
    times = [path.stat().st_mtime for path in paths if path.is_file()]
    if not times:
        return "none yet"
    days = [datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d") for time in (min(times), max(times))]
    return days[0] if days[0] == days[1] else f"{days[0]} to {days[1]}"


def _joined(values: Iterable[Any]) -> str:
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
