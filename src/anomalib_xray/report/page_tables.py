"""The tables of the page, as text that a template lays out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import NamedTuple

from markupsafe import Markup

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.bootstrap import over_seeds
from anomalib_xray.evaluation.conformal import PROMISES, false_alarms_of_runs
from anomalib_xray.experiments.grid import SHORTCUTS
from anomalib_xray.report.charts import efficient
from anomalib_xray.report.findings import range_of
from anomalib_xray.report.parts import Part
from anomalib_xray.report.published import Published, family_of, published_for
from anomalib_xray.report.results import LESIONS, PIXEL, CellOutputs
from anomalib_xray.report.rows import Row
from anomalib_xray.report.svg import interval_mark


class Entry(NamedTuple):
    """A cell of a table: text, number by which rows are sorted (none for text), style class, place that it leads to."""

    text: str | Markup = ""
    order: float = nan
    style: str = ""
    link: str = ""

    @property
    def key(self) -> str:
        """The number as an attribute, empty where there is none."""
        return f"{self.order:.6g}" if isfinite(self.order) else ""


@dataclass
class Table:
    """A table: its title, its heading, its rows, named by their first column, and the notes below it."""

    title: str
    header: list[str]
    rows: list[list[Entry]]
    notes: list[str] = field(default_factory=list)


def main_table(part: Part, selection: dict[str, str], links: Mapping[str, str] | None = None) -> Table:
    """The figures of a part: models from the highest AUROC down, those without figures, and shortcuts.

    Models that trained with labels come after those that did not. ``links`` are places of the models' cases.
    """
    against = [] if part.baseline is None else [f"AUROC - {part.baseline}"]
    header = ["model", "score", "AUROC", "0 to 1", "95 % interval", *against, "AP", "sens. at 90 % spec.", "chosen by"]
    waiting = [row for row in part.rows if row.model != SHORTCUTS and not row.estimates]
    rows = [_main_row(row, part, selection) for row in [*part.models, *waiting, *part.shortcuts]]
    for row, entries in zip(part.models, rows, strict=False):
        entries[0] = entries[0]._replace(link=(links or {}).get(row.model, ""))
    return Table(part.title, [*header, "notes"], rows)


def _main_row(row: Row, part: Part, selection: dict[str, str]) -> list[Entry]:
    is_shortcut = row.model == SHORTCUTS
    name = f"{'shortcut' if is_shortcut else row.model}{' (baseline)' if row is part.baseline_row else ''}"
    chosen = "no model" if is_shortcut else selection.get(row.model, "")
    notes = [*row.notes, *(f"seed {seed} failed" for seed in row.failures)]
    if not row.estimates and not notes:
        notes.append("not run")
    against = [] if part.baseline is None else [_against(row)]
    figures = [Entry()] * 3 + against + [Entry()] * 2
    if row.estimates:
        auroc, seeds = row.estimates["AUROC"], row.seeds["AUROC"].values()
        text = f"{row.model} {row.score}: AUROC {auroc.value:.3f}, interval {range_of(auroc)}"
        others = (row.estimates[name].value for name in ("AP", "sensitivity_at_90"))
        figures = [
            _auroc(row),
            Entry(interval_mark(*auroc, seeds if len(seeds) > 1 else (), text), auroc.value),
            Entry(range_of(auroc), auroc.low),
            *against,
            *(Entry(f"{value:.3f}", value) for value in others),
        ]
    return [
        Entry(name, style="shortcut" if is_shortcut else ""),
        Entry(part.score(row)),
        *figures,
        Entry(chosen),
        Entry("; ".join(notes), style=f"{'' if is_shortcut else 'warning '}notes" if notes else ""),
    ]


def _against(row: Row) -> Entry:
    difference = row.against.get("AUROC")
    if difference is None:
        return Entry()
    style = {1: "better", -1: "worse", 0: ""}[row.side("against")]
    text = Markup("{:+.3f} <span class=quiet>{}</span>").format(difference.value, range_of(difference, "+"))
    return Entry(text, difference.value, style)


def _auroc(row: Row, style: str = "figure") -> Entry:
    return _with_spread(row.estimates["AUROC"].value, over_seeds(row.seeds["AUROC"])[1], style)


def _with_spread(value: float, deviation: float, style: str = "") -> Entry:
    """A figure with its standard deviation over seeds, if there are several."""
    spread = f" ± {deviation:.3f}" if isfinite(deviation) else ""
    return Entry(f"{value:.3f}{spread}", value, style) if isfinite(value) else Entry()


def overview(parts: Sequence[Part]) -> Table | None:
    """AUROC of every model on every part, if there are several; the highest of each column is marked."""
    if len(parts) < 2:
        return None
    names = {(row.model, row.score): part.score(row) for part in parts for row in part.rows if row.model != SHORTCUTS}
    rows = []
    for (model, score), name in names.items():
        entries = [Entry(model), Entry(name)]
        for part in parts:
            row = next((row for row in part.models if (row.model, row.score) == (model, score)), None)
            entries.append(Entry("–") if row is None else _auroc(row, "better" if row is part.models[0] else ""))
        rows.append(entries)
    return Table("AUROC on all data", ["model", "score", *(part.title for part in parts)], rows)


def published_tables(parts: Sequence[Part]) -> list[Table]:
    """Our figures beside published ones, and below them what else was published on the same data sets."""
    rows, families, shown = [], list[Published](), set[Published]()
    for part in parts:
        for row in part.rows:
            cells = part.cells.get(row.model, [])
            if row.model == SHORTCUTS or not cells:
                continue
            families += family_of(cells[0])
            first = next(other for other in part.rows if other.model == row.model)
            ours = _auroc(row) if row.estimates else Entry("no figure")
            for figure in published_for(row, cells[0], is_first=row is first):
                shown.add(figure)
                names = (row.model, figure.score or part.score(row), part.title)
                rows.append([*map(Entry, names), ours, *_published_entries(figure)])
    tables = []
    if rows:
        header = ["model", "score", "data", "ours", "published", "source"]
        tables.append(Table("Ours and theirs", header, rows, _protocols(shown)))
    others = [figure for figure in dict.fromkeys(families) if figure not in shown and figure.auroc is not None]
    if others:
        header = ["model", "score", "data", "published", "source"]
        rows = [_other_row(figure) for figure in others]
        tables.append(Table("Others on these data sets", header, rows, _protocols(others)))
    return tables


def _protocols(figures: Iterable[Published]) -> list[str]:
    """The protocol of each source."""
    return sorted({f"{figure.source} ({figure.data}): {figure.protocol}" for figure in figures})


def _published_entries(figure: Published) -> list[Entry]:
    text = f"{figure.figure}{'' if figure.verified else ' (unverified)'}"
    return [
        Entry(text, nan if figure.auroc is None else figure.auroc, "" if figure.verified else "warning"),
        Entry(figure.source, style="long"),
    ]


def _other_row(figure: Published) -> list[Entry]:
    where = [figure.body_part.lower() if figure.body_part else figure.data, figure.preparation]
    where += [] if figure.equalize is None else ["equalised" if figure.equalize else "not equalised"]
    names = (figure.model, figure.score, ", ".join(filter(None, where)))
    return [*map(Entry, names), *_published_entries(figure)]


def cost_table(part: Part) -> Table | None:
    """Time, memory and size of each model, and what its accuracy costs, where anything of it is known."""
    header = [
        "model", "AUROC", "training s", "ms an image", "peak memory GiB", "parameters", "GFLOP an image",
        "points above chance a GFLOP",
    ]  # fmt: skip
    front = efficient([row for row in part.leaders if row.costs.get("gflop", 0) > 0])
    rows = []
    for row in part.leaders:
        costs, auroc = row.costs, row.estimates["AUROC"].value
        gflop, images = costs.get("gflop", nan), costs.get("images", 0)
        each = 1000 * costs.get("testing_s", nan) / images if images else nan
        rows.append([
            Entry(row.model),
            Entry(f"{auroc:.3f}", auroc, "figure"),
            _number(costs.get("training_s", nan), ".0f"),
            _number(each, ".1f"),
            _number(costs.get("peak_memory_gib", nan), ".2f"),
            _number(costs.get("parameters", nan), ",.0f"),
            _number(gflop or nan, ".3g", "better" if row in front else ""),
            _number(100 * (auroc - 0.5) / gflop if gflop > 0 else nan, ",.1f"),
        ])  # fmt: skip
    known = any(isfinite(entry.order) for row in rows for entry in row[2:])
    return Table("Time, memory and size", header, rows) if known else None


def pixel_table(part: Part) -> Table | None:
    """Agreement of maps with masks, by pixels and by lesions, as means over seeds, where a cell has such figures."""
    rows = [row for row in part.leaders if row.pixel]
    names = [name for name in (*PIXEL, *LESIONS) if any(name in row.pixel for row in rows)]
    if not names:
        return None
    words = {
        "AUROC": "pixel AUROC",
        "Dice": "best Dice",
        "hit": "hottest pixel hits",
        "found_at_1": "lesions found at 1",
    }
    header = ["model", *(words.get(name, name) for name in names)]
    entries = [[Entry(row.model), *(_with_spread(*row.pixel.get(name, (nan, nan))) for name in names)] for row in rows]
    return Table(part.title, header, entries)


def alarm_table(part: Part, outputs: CellOutputs) -> Table | None:
    """False alarms on normal patients of the test, at promised thresholds; none where no validation left its scores."""
    rows, notes = [], []
    for row in part.leaders:
        runs = outputs.normal_patients(part.cells[row.model], row.score)
        if not runs:
            continue
        entries = [Entry(row.model), Entry(part.score(row))]
        for promise in PROMISES:
            try:
                found = false_alarms_of_runs(runs, promise)
            except XrayError as error:
                entries.append(Entry("–"))
                notes.append(str(error))
                continue
            text = f"{found.share.value:.3f} ({range_of(found.share)}), {found.expected:.3f} expected"
            entries.append(Entry(text, found.share.value))
            notes.append(f"{found.calibrated} normal patients validate, {found.patients} test.")
        rows.append(entries)
    header = ["model", "score", *(f"at most {promise:g} promised" for promise in PROMISES)]
    return Table(part.title, header, rows, list(dict.fromkeys(notes))) if rows else None


def _number(value: float, form: str, style: str = "") -> Entry:
    return Entry(format(value, form), value, style) if isfinite(value) else Entry()
