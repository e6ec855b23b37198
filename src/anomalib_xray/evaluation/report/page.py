"""The report of a benchmark: one HTML file that holds everything it shows."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from anomalib_xray.edge.bundle import NOTICE
from anomalib_xray.evaluation.plan import SHORTCUTS, Grid
from anomalib_xray.evaluation.report.cases import KINDS, Case, read_cases
from anomalib_xray.evaluation.report.charts import draw_costs, draw_curves, draw_histograms
from anomalib_xray.evaluation.report.dependence import draw_top_k, draw_training_size
from anomalib_xray.evaluation.report.facts import config_of, facts_of, failures_of
from anomalib_xray.evaluation.report.findings import Sentence, caution, findings_of
from anomalib_xray.evaluation.report.lines import (
    Table,
    cost_table,
    main_table,
    overview,
    pixel_table,
    published_tables,
)
from anomalib_xray.evaluation.report.material import Material, Part, parts_of
from anomalib_xray.evaluation.report.svg import Figure
from anomalib_xray.evaluation.rows import Row
from anomalib_xray.io.progress import status
from anomalib_xray.io.write import write_atomically

REPORT = "report.html"

PICTURE_BYTES = 5_000_000
"""Most that pictures of cases take in the file; what is beyond is left out, and the report says so."""

MODELS_WITH_CASES = 3


@dataclass
class PartView:
    """What the report shows of one part.

    Attributes:
        title: Its name.
        summary: What was tested, such as "225 images of 80 patients, 42 % abnormal".
        findings: What was found.
        main: The figures.
        curves: ROC and precision-recall curves, large.
        small_curves: The same of each model, small.
        histograms: Spread of the scores of each model.
        top_k: AUROC against the number of pixels.
        training_size: AUROC against the number of training images.
        pixel: Figures of the maps.
        cases: Pictures of each of the best models.
        cost_figure: AUROC against GFLOP.
        costs: Time, memory and size.
    """

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
    cases: list[tuple[str, list[Case]]] = field(default_factory=list)
    cost_figure: Figure | None = None
    costs: Table | None = None


def write_report(rows: Sequence[Row], grid: Grid, out: Path) -> Path:
    """Writes OUT/report.html: one file with all figures, curves and pictures, which loads nothing.

    The same results make the same file.

    Args:
        rows: What :func:`anomalib_xray.evaluation.tables.read_rows` found.
        grid: The benchmark.
        out: Its folder.

    Returns:
        The file.

    Raises:
        XrayError: What a cell left cannot be read, or the file cannot be written.
    """
    material, parts = Material(grid, out), parts_of(rows, grid)
    with status("Writing the report"):
        views = [_view(part, material) for part in parts]
    left_out = _limit_pictures(views)
    environment = Environment(
        loader=PackageLoader(__package__, "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    script = environment.loader.get_source(environment, "sort.js")[0] if environment.loader else ""
    text = environment.get_template("report.html.j2").render(
        title=grid.title,
        notice=NOTICE,
        level=grid.level,
        baseline=grid.baseline,
        views=views,
        caution=caution(parts),
        overview=overview(parts),
        selections=_selections(grid),
        published=published_tables(parts),
        failures=failures_of(material),
        facts=facts_of(material),
        config=config_of(grid),
        left_out=left_out,
        kinds=KINDS,
        absent=[sentence for is_there, sentence in _SECTIONS.values() if not any(map(is_there, views))],
        script=script,
        script_hash=_hash(script),
        seeds=len({cell.seed for cell in grid.cells if cell.model != SHORTCUTS}),
    )
    write_atomically(out / REPORT, text)
    return out / REPORT


_SECTIONS: dict[str, tuple[Callable[[PartView], bool], str]] = {
    "curves": (
        lambda view: bool(view.curves),
        "ROC and precision-recall curves: no model has both classes in its test.",
    ),
    "top_k": (
        lambda view: bool(view.top_k),
        "AUROC against k: no cell left a table of the largest values of its maps.",
    ),
    "training_size": (
        lambda view: view.training_size is not None,
        "AUROC against training size: the grid trains no model on a part of the images.",
    ),
    "pixel": (lambda view: view.pixel is not None, "Pixel figures: no cell measured maps against masks."),
    "cases": (lambda view: bool(view.cases), "Best and worst cases: no cell left pictures."),
    "costs": (lambda view: view.cost_figure is not None, "AUROC against GFLOP: no cell counted them."),
}
"""Whether a part has something to show of a section, and what stands in its place if none has."""


def _view(part: Part, material: Material) -> PartView:
    """Draws everything of one part."""
    curves, small = draw_curves(part, material)
    return PartView(
        title=part.title,
        summary=_summary(part, material),
        findings=findings_of(part),
        main=main_table(part, material.grid.selection),
        curves=curves,
        small_curves=small,
        histograms=draw_histograms(part, material),
        top_k=draw_top_k(part, material),
        training_size=draw_training_size(part, material),
        pixel=pixel_table(part),
        cases=_cases(part, material),
        cost_figure=draw_costs(part),
        costs=cost_table(part) if part.models else None,
    )


def _summary(part: Part, material: Material) -> str:
    """What a part was tested on."""
    for row in part.models:
        for cell in material.done(part.cells[row.model]):
            units = material.units(cell, row.score)
            patients = units["patient"].nunique()
            whose = "" if material.grid.level == "patient" else f" of {patients} patients"
            names = {"image": "images", "study": "studies", "patient": "patients"}
            return (
                f"{len(units)} test {names[material.grid.level]}{whose}, {units['label'].mean():.1%} abnormal; "
                f"{len(part.leaders)} models"
            )
    return "no finished model"


def _cases(part: Part, material: Material) -> list[tuple[str, list[Case]]]:
    """Cases of the highest models that left any, of the first seed that did."""
    found = []
    for row in part.leaders:
        for cell in material.done(part.cells[row.model]):
            cases = read_cases(material.folder(cell))
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


def _selections(grid: Grid) -> dict[str, list[str]]:
    """Models by what their settings were chosen by."""
    found: dict[str, list[str]] = {}
    for model, selection in grid.selection.items():
        found.setdefault(selection, []).append(model)
    return found


def _hash(script: str) -> str:
    """What the page's security policy calls the only script that may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
