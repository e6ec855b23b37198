"""The report of a benchmark: one HTML file that holds everything it shows."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from anomalib_xray import NOTICE
from anomalib_xray.experiments.grid import SHORTCUTS
from anomalib_xray.io.progress import status
from anomalib_xray.io.text import read_json
from anomalib_xray.io.write import write_atomically
from anomalib_xray.report.cases import KINDS, Case, read_cases
from anomalib_xray.report.charts import draw_costs, draw_curves, draw_histograms, draw_top_k, draw_training_size
from anomalib_xray.report.decisions import cross_check, decision_table, percentiles_of
from anomalib_xray.report.facts import config_of, facts_of, failures_of, joined
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
from anomalib_xray.report.patients import SMALLEST, lesion_table, patients_table, subgroup_tables
from anomalib_xray.report.results import CellOutputs
from anomalib_xray.report.rows import Row
from anomalib_xray.report.svg import Figure

REPORT = "report.html"

PICTURE_BYTES = 5_000_000
"""Most that pictures of cases take in the file; what is beyond is left out, and the report says so."""

MODELS_WITH_CASES = 5


@dataclass
class Gallery:
    """Cases of a model, and the name of their place on the page."""

    anchor: str
    model: str
    name: str
    cases: list[Case]


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
    patients: Table | None = None
    decisions: Table | None = None
    check: Table | None = None
    pixel: Table | None = None
    lesions: Table | None = None
    groups: list[Table] = field(default_factory=list)
    alarms: Table | None = None
    percentiles: Table | None = None
    percentile_figure: Figure | None = None
    cases: list[Gallery] = field(default_factory=list)
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
        views = [_view(part, outputs, place) for place, part in enumerate(parts, 1)]
    left_out = _limit_pictures(views)
    loader = PackageLoader(__package__, "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = loader.get_source(environment, "page.js")[0]
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
        checklist=checklist_of([*_ALWAYS, *(name for name in _SECTIONS if any(map(_SECTIONS[name], views)))]),
        facts=facts_of(outputs),
        config=config_of(grid),
        left_out=left_out,
        kinds=KINDS,
        unit=joined(result.get("unit", "patients") for result in map(outputs.result, grid.cells) if "splits" in result),
        smallest=SMALLEST,
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
    "patients": "Numbers of patients by split: no cell counted them; those run before this was recorded have none.",
    "decisions": "Decisions: no model has a threshold.",
    "pixel": "Pixel figures: no cell measured maps against masks.",
    "groups": "Groups of images: the data set names no view, side, age, sex or device of a picture.",
    "alarms": "False alarms: no cell kept the scores of its validation.",
    "cases": "Best and worst cases: no cell left pictures.",
    "cost_figure": "AUROC against GFLOP: no cell counted them.",
}
"""Sentences in place of contents that no part has."""


_ALWAYS = ("figures", "rules", "run")
_SECTIONS: dict[str, Callable[[PartView], object]] = {
    "patients": lambda view: view.patients,
    "decisions": lambda view: view.decisions,
    "check": lambda view: view.check,
    "size": lambda view: view.training_size,
    "pixels": lambda view: view.pixel,
    "groups": lambda view: view.groups,
    "cases": lambda view: view.cases,
}
"""Sections that the checklist may name, and what makes those that not every report has."""


def _view(part: Part, outputs: CellOutputs, place: int) -> PartView:
    """Draws everything of one part, the ``place``-th."""
    curves, small = draw_curves(part, outputs)
    cases = _cases(part, outputs, place)
    percentiles, percentile_figure = percentiles_of(part, outputs)
    selection = outputs.grid.selection
    return PartView(
        title=part.title,
        summary=_summary(part, outputs),
        findings=findings_of(part),
        main=main_table(part, selection, {gallery.model: gallery.anchor for gallery in cases}),
        curves=curves,
        small_curves=small,
        histograms=draw_histograms(part, outputs),
        top_k=draw_top_k(part, outputs),
        training_size=draw_training_size(part, outputs),
        pixel=pixel_table(part),
        patients=patients_table(part, outputs),
        decisions=decision_table(part, selection),
        check=cross_check(part),
        lesions=lesion_table(part, outputs),
        groups=subgroup_tables(part, outputs),
        alarms=alarm_table(part, outputs),
        percentiles=percentiles,
        percentile_figure=percentile_figure,
        cases=cases,
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


def _cases(part: Part, outputs: CellOutputs, place: int) -> list[Gallery]:
    """Cases of the highest models that left any, of the first seed that did."""
    found: list[Gallery] = []
    for row in part.leaders:
        for cell in outputs.done(part.cells[row.model]):
            cases = read_cases(outputs.folder(cell))
            if cases:
                anchor = f"cases-{place}-{len(found) + 1}"
                found.append(Gallery(anchor, row.model, f"{row.model}, seed {cell.seed}", cases))
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
            gallery, kept = view.cases[place], []
            for case in gallery.cases:
                room -= len(case.uri)
                if room >= 0:
                    kept.append(case)
            left_out += len(gallery.cases) - len(kept)
            gallery.cases = kept
    return left_out


class ChecklistItem(NamedTuple):
    """An item: numbers in CLAIM and STARD-AI, what the report answers and in which sections, and what is left."""

    topic: str
    claim: str
    stard: str
    answer: str
    rest: str
    sections: list[str]


class Checklist(NamedTuple):
    """Items of reporting guidelines, and the guidelines."""

    sources: list[str]
    items: list[ChecklistItem]


def checklist_of(sections: Collection[str]) -> Checklist:
    """Items of the reporting guidelines, each with the section that answers it, or left to the author.

    Args:
        sections: Places of the page's sections.

    Example:
        >>> [item.answer for item in checklist_of(["run"]).items if item.topic == "Software"]
        ['versions']
    """
    content = read_json(Path(__file__).with_name("checklist.json"))
    entries = []
    for item in content["items"]:
        section = item.get("section")
        links = [name for name in (section, item.get("also")) if name in sections]
        answer = item.get("answer", "") if section in sections else ""
        rest = item.get("rest", "") if answer else "all of it"
        entries.append(ChecklistItem(item["topic"], item.get("claim", ""), item.get("stard", ""), answer, rest, links))
    return Checklist(content["sources"], entries)
