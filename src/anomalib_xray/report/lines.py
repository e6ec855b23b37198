"""The tables of the report, as text that a template lays out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import NamedTuple

import numpy as np
from markupsafe import Markup

from anomalib_xray.experiments.grid import SHORTCUTS
from anomalib_xray.experiments.rows import Row
from anomalib_xray.report.charts import efficient
from anomalib_xray.report.findings import range_of
from anomalib_xray.report.material import Part
from anomalib_xray.report.published import Published, family_of, published_for
from anomalib_xray.report.results import PIXEL
from anomalib_xray.report.svg import interval_mark

_PIXEL_NAMES = {"AUROC": "pixel AUROC", "Dice": "best Dice"}


class Cell(NamedTuple):
    """A cell of a table: its text, the number by which rows are sorted (none for text), and its style class."""

    text: str | Markup
    order: float = nan
    style: str = ""

    @property
    def key(self) -> str:
        """The number as an attribute, empty where there is none."""
        return f"{self.order:.6g}" if isfinite(self.order) else ""


@dataclass
class Table:
    """A table: its title, its heading, whose first column names the rows, its rows, and the notes below it."""

    title: str
    header: list[str]
    lines: list[list[Cell]]
    notes: list[str] = field(default_factory=list)


def main_table(part: Part, selection: dict[str, str]) -> Table:
    """The figures of a part: models from the highest AUROC down, then those without, then shortcuts."""
    against = [] if part.baseline is None else [f"AUROC - {part.baseline}"]
    header = ["model", "score", "AUROC", "0 to 1", "95 % interval", *against, "AP", "sens. at 90 % spec.", "chosen by"]
    waiting = [row for row in part.rows if row.model != SHORTCUTS and not row.estimates]
    shortcuts = [row for row in part.rows if row.model == SHORTCUTS and row.estimates]
    lines = [_main_line(row, part, selection) for row in [*part.models, *waiting, *shortcuts]]
    return Table(part.title, [*header, "notes"], lines)


def _main_line(row: Row, part: Part, selection: dict[str, str]) -> list[Cell]:
    is_shortcut = row.model == SHORTCUTS
    name = f"{'shortcut' if is_shortcut else row.model}{' (baseline)' if row is part.baseline_row else ''}"
    chosen = "no model" if is_shortcut else selection.get(row.model, "")
    notes = [*row.notes, *(f"seed {seed} failed" for seed in row.failures)]
    if not row.estimates and not notes:
        notes.append("not run")
    ends = [Cell(chosen), Cell("; ".join(notes), style=f"{'' if is_shortcut else 'warning '}notes" if notes else "")]
    start = [Cell(name, style="shortcut" if is_shortcut else ""), Cell(part.score(row))]
    against = [] if part.baseline is None else [_against(row)]
    if not row.estimates:
        return [*start, Cell(""), Cell(""), Cell(""), *[Cell("") for _ in against], Cell(""), Cell(""), *ends]
    auroc = row.estimates["AUROC"]
    seeds = row.seeds["AUROC"]
    text = f"{row.model} {row.score}: AUROC {auroc.value:.3f}, interval {range_of(auroc)}"
    mark = interval_mark(*auroc, seeds.values() if len(seeds) > 1 else (), text)
    return [
        *start,
        Cell(_with_spread(auroc.value, list(seeds.values())), auroc.value, "figure"),
        Cell(mark, auroc.value),
        Cell(range_of(auroc), auroc.low),
        *against,
        *(Cell(f"{row.estimates[name].value:.3f}", row.estimates[name].value) for name in ("AP", "sensitivity_at_90")),
        *ends,
    ]


def _against(row: Row) -> Cell:
    difference = row.against.get("AUROC")
    if difference is None:
        return Cell("")
    style = {1: "better", -1: "worse", 0: ""}[row.side("against")]
    text = Markup("{:+.3f} <span class=quiet>{}</span>").format(difference.value, range_of(difference, "+"))
    return Cell(text, difference.value, style)


def _with_spread(value: float, seeds: Sequence[float]) -> str:
    return f"{value:.3f}" + (f" ± {np.std(seeds, ddof=1):.3f}" if len(seeds) > 1 else "")


def overview(parts: Sequence[Part]) -> Table | None:
    """AUROC of every model on every part, where there are several; the highest of each column is marked."""
    if len(parts) < 2:
        return None
    names = {(row.model, row.score): part.score(row) for part in parts for row in part.rows if row.model != SHORTCUTS}
    tops = [part.models[0] if part.models else None for part in parts]
    lines = []
    for model, score in names:
        line = [Cell(model), Cell(names[model, score])]
        for part, top in zip(parts, tops, strict=True):
            row = next((row for row in part.models if (row.model, row.score) == (model, score)), None)
            if row is None:
                line.append(Cell("–"))
                continue
            value, seeds = row.estimates["AUROC"].value, list(row.seeds["AUROC"].values())
            line.append(Cell(_with_spread(value, seeds), value, "better" if row is top else ""))
        lines.append(line)
    return Table("AUROC on all data", ["model", "score", *(part.title for part in parts)], lines)


def published_tables(parts: Sequence[Part]) -> list[Table]:
    """Our figures beside published ones, and below them what else was published on the same data sets."""
    lines, families, shown = [], list[Published](), set[Published]()
    for part in parts:
        for row in part.rows:
            cells = part.cells.get(row.model, [])
            if row.model == SHORTCUTS or not cells:
                continue
            families += family_of(cells[0])
            first = next(other for other in part.rows if other.model == row.model)
            for figure in published_for(row, cells[0], is_first=row is first):
                shown.add(figure)
                lines.append(_published_line(row, part, figure))
    tables = []
    if lines:
        header = ["model", "score", "data", "ours", "published", "source"]
        tables.append(Table("Ours and theirs", header, lines, _protocols(shown)))
    others = [figure for figure in dict.fromkeys(families) if figure not in shown and figure.auroc is not None]
    if others:
        header = ["model", "score", "data", "published", "source"]
        lines = [_other_line(figure) for figure in others]
        tables.append(Table("Others on these data sets", header, lines, _protocols(others)))
    return tables


def _protocols(figures: Iterable[Published]) -> list[str]:
    """How each source measured, once a source."""
    return sorted({f"{figure.source} ({figure.data}): {figure.protocol}" for figure in figures})


def _published_line(row: Row, part: Part, figure: Published) -> list[Cell]:
    ours = Cell("no figure")
    if row.estimates:
        value = row.estimates["AUROC"].value
        ours = Cell(_with_spread(value, list(row.seeds["AUROC"].values())), value, "figure")
    return [Cell(row.model), Cell(figure.score or part.score(row)), Cell(part.title), ours, *_published_cells(figure)]


def _published_cells(figure: Published) -> list[Cell]:
    text = f"{figure.figure}{'' if figure.verified else ' (unverified)'}"
    return [
        Cell(text, nan if figure.auroc is None else figure.auroc, "" if figure.verified else "warning"),
        Cell(figure.source, style="long"),
    ]


def _other_line(figure: Published) -> list[Cell]:
    where = [figure.body_part.lower() if figure.body_part else figure.data, figure.preparation]
    where += [] if figure.equalize is None else ["equalised" if figure.equalize else "not equalised"]
    return [
        Cell(figure.model),
        Cell(figure.score),
        Cell(", ".join(filter(None, where))),
        *_published_cells(figure),
    ]


def cost_table(part: Part) -> Table:
    """Time, memory and size of each model, and what its accuracy costs."""
    header = [
        "model", "AUROC", "training s", "ms an image", "peak memory GiB", "parameters", "GFLOP an image",
        "points above chance a GFLOP",
    ]  # fmt: skip
    front = efficient([row for row in part.leaders if row.costs.get("gflop", 0) > 0])
    lines = []
    for row in part.leaders:
        costs, auroc = row.costs, row.estimates["AUROC"].value
        gflop, images = costs.get("gflop", nan), costs.get("images", 0)
        each = 1000 * costs.get("testing_s", nan) / images if images else nan
        lines.append([
            Cell(row.model),
            Cell(f"{auroc:.3f}", auroc, "figure"),
            _number(costs.get("training_s", nan), ".0f"),
            _number(each, ".1f"),
            _number(costs.get("peak_memory_gib", nan), ".2f"),
            _number(costs.get("parameters", nan), ",.0f"),
            _number(gflop or nan, ".3g", "better" if row in front else ""),
            _number(100 * (auroc - 0.5) / gflop if gflop > 0 else nan, ",.1f"),
        ])  # fmt: skip
    return Table("Time, memory and size", header, lines)


def pixel_table(part: Part) -> Table | None:
    """How well maps show where anomalies are, as means over seeds, where a cell has such figures."""
    rows = [row for row in part.leaders if row.pixel]
    names = [name for name in PIXEL if any(name in row.pixel for row in rows)]
    if not names:
        return None
    header = [_PIXEL_NAMES.get(name, name) for name in names]
    return Table(part.title, ["model", *header], [[Cell(row.model), *_pixel_cells(row, names)] for row in rows])


def _pixel_cells(row: Row, names: Sequence[str]) -> list[Cell]:
    found = [row.pixel.get(name, (nan, nan)) for name in names]
    texts = [f"{value:.3f}" + (f" ± {std:.3f}" if isfinite(std) else "") for value, std in found]
    return [Cell(text, value) if isfinite(value) else Cell("") for text, (value, _) in zip(texts, found, strict=True)]


def _number(value: float, form: str, style: str = "") -> Cell:
    return Cell(format(value, form), value, style) if isfinite(value) else Cell("")
