"""Charts of one part of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from markupsafe import Markup

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.curves import Curve, aurocs, has_both_classes, pr_curve, roc_curve
from anomalib_xray.evaluation.ranking import Ranking
from anomalib_xray.evaluation.units import ID_COLUMNS, read_scores, units_of
from anomalib_xray.experiments.grid import SCORES, TOP_K, Cell
from anomalib_xray.report.parts import HIGHLIGHTS, Part
from anomalib_xray.report.results import CellOutputs
from anomalib_xray.report.rows import Row
from anomalib_xray.report.svg import Axis, Chart, Figure, Key

_BINS = 24
_LARGE = (380, 290)
_SMALL = (190, 150)  # of charts that stand many in a row
_KINDS = {0: "normal", 1: "abnormal"}

_Point = tuple[float, float, float, float]
"""Place on the horizontal axis, AUROC, and the ends of its band."""


def runs_of(row: Row, part: Part, outputs: CellOutputs) -> list[pd.DataFrame]:
    """Units of each finished seed of a row, see :meth:`CellOutputs.units`; empty if a class has no unit."""
    runs = [outputs.units(cell, row.score) for cell in outputs.done(part.cells.get(row.model, []))]
    return runs if has_both_classes(runs) else []


def draw_curves(part: Part, outputs: CellOutputs) -> tuple[list[Figure], list[Figure]]:
    """Draws ROC and precision-recall curves of models whose test has both classes.

    Returns:
        Two large charts with the models that have a colour and the best shortcut; and two small ones per model.
    """
    curves = {}
    for row in part.models:
        runs = runs_of(row, part, outputs)
        if runs:
            curves[part.label(row)] = (row, roc_curve(runs), pr_curve(runs))
    if not curves:
        return [], []
    prevalence = next(iter(curves.values()))[0].prevalence
    roc, pr = _roc_and_pr(part.title, prevalence)
    keys: dict[str, list[Key]] = {"AUROC": [], "AP": []}
    coloured = [part.label(row) for row in part.leaders if part.styles[row.model] != "rest"]
    shown = [(label, *curves[label]) for label in coloured if label in curves]
    for place, (label, row, *pair) in enumerate(reversed(shown)):
        for chart, curve in zip((roc, pr), pair, strict=True):
            # More bands than those of the best one and the baseline would hide each other.
            _draw_curve(chart, curve, part.styles[row.model], label, band=place == len(shown) - 1)
        for metric, own in keys.items():
            own.insert(0, Key(part.styles[row.model], label, _figure(row, metric)))
    if shortcut := _draw_shortcut(part, outputs, roc, pr):
        for metric, own in keys.items():
            own.append(Key("cut", f"shortcut {shortcut.score}", _figure(shortcut, metric)))
    note = "Band: 95 % of draws of patients, for the highest model. Dotted: chance."
    large = [
        Figure(roc.svg(), "ROC", keys["AUROC"], f"{note} Beside the names: AUROC."),
        Figure(
            pr.svg(),
            "Precision and recall",
            keys["AP"],
            f"{note} Chance is the prevalence, {prevalence:.1%}. Beside the names: average precision.",
        ),
    ]
    return large, [figure for label, curve in curves.items() for figure in _small_curves(label, *curve)]


def _draw_shortcut(part: Part, outputs: CellOutputs, roc: Chart, pr: Chart) -> Row | None:
    """Draws the best shortcut in its direction and returns its row, if there is one."""
    row = part.best_shortcut
    runs = [] if row is None else runs_of(row, part, outputs)
    if row is None or not runs:
        return None
    runs = [run.assign(score=row.direction * run["score"]) for run in runs]
    for chart, curve in ((roc, roc_curve(runs)), (pr, pr_curve(runs))):
        chart.line(curve.x, curve.y, "cut", f"shortcut {row.score}")
    return row


def _small_curves(label: str, row: Row, roc: Curve, pr: Curve) -> list[Figure]:
    charts = _roc_and_pr(label, row.prevalence, _SMALL)
    for chart, curve in zip(charts, (roc, pr), strict=True):
        _draw_curve(chart, curve, "s1", label, band=True)
    figures = (f"AUROC {_figure(row)}", f"AP {_figure(row, 'AP')}")
    return [Figure(chart.svg(), label, note=note) for chart, note in zip(charts, figures, strict=True)]


def _roc_and_pr(name: str, prevalence: float, size: tuple[int, int] = _LARGE) -> tuple[Chart, Chart]:
    """Empty charts of both curves, with chance."""
    labels = (("1 - specificity", "sensitivity"), ("sensitivity (recall)", "precision"))
    axes = [[Axis(label, 0, 1, sparse=size == _SMALL) for label in pair] for pair in labels]
    titles = (f"ROC curves, {name}", f"Precision-recall curves, {name}")
    roc, pr = (Chart(x, y, title, size) for (x, y), title in zip(axes, titles, strict=True))
    roc.line([0, 1], [0, 1], "chance", "chance")
    pr.across(prevalence, "chance", f"prevalence {prevalence:.1%}")
    return roc, pr


def _draw_curve(chart: Chart, curve: Curve, style: str, label: str, *, band: bool) -> None:
    if band:
        chart.band(curve.x, curve.low, curve.high, style)
    chart.line(curve.x, curve.y, style, label)


def draw_histograms(part: Part, outputs: CellOutputs) -> list[Figure]:
    """Draws histograms of the scores of normal and of abnormal units, a small chart per model.

    They are of the first finished seed: scores of different trainings have different units.
    """
    figures = []
    for row in part.models:
        cell = outputs.done(part.cells[row.model])[0]
        units = outputs.units(cell, row.score)
        figures.append(
            Figure(_histogram(units, part.label(row)), row.model, note=f"{part.score(row)}, seed {cell.seed}")
        )
    return figures


def _histogram(units: pd.DataFrame, name: str) -> Markup:
    # Far scores count in the first and the last bar, so that they do not squeeze the others into one.
    low, high = np.quantile(units["score"], [0.01, 0.98])
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    shares = {}
    for label, part in units.groupby("label"):
        counts, _ = np.histogram(np.clip(part["score"], low, high), edges)
        shares[int(str(label))] = (counts / len(part), len(part))
    top = max(float(share.max()) for share, _ in shares.values())
    description = f"Histogram of the scores of {name}"
    chart = Chart(Axis("score", float(low), float(high), sparse=True), Axis("", 0, top * 1.05), description, _SMALL)
    for label, (share, count) in shares.items():
        chart.area(edges.tolist(), share.tolist(), _KINDS[label], f"{_KINDS[label]} ({count})")
    return chart.svg()


def draw_costs(part: Part) -> Figure | None:
    """Draws AUROC against the multiplications and additions of scoring one image, if any are known."""
    rows = [row for row in part.leaders if row.costs.get("gflop", 0) > 0]
    if not rows:
        return None
    costs = [row.costs["gflop"] for row in rows]
    chart = Chart(
        Axis("GFLOP an image", min(costs) / 1.6, max(costs) * 1.6, log=True),
        auroc_axis([(row.estimates["AUROC"].low, row.estimates["AUROC"].high) for row in rows]),
        f"AUROC against GFLOP, {part.title}",
        (620, 330),
    )
    chart.across(0.5, "chance", "chance")
    front = efficient(rows)
    for row in rows:
        estimate, style = row.estimates["AUROC"], "s1" if row in front else "rest"
        title = f"{row.model}: AUROC {estimate.value:.3f}, {row.costs['gflop']:.3g} GFLOP"
        chart.dot(row.costs["gflop"], estimate.value, (estimate.low, estimate.high), style, title)
    for row in [*front, *(row for row in rows if row not in front)]:
        style = "name" if row in front else "faint"
        chart.write(row.costs["gflop"], row.estimates["AUROC"].value, row.model, style)
    missing = [row.model for row in part.leaders if row not in rows]
    note = "Whiskers: 95 % intervals. " + (f"Not counted: {', '.join(missing)}." if missing else "")
    keys = [Key("s1", "no cheaper model is as good"), Key("rest", "a cheaper one is at least as good")]
    return Figure(chart.svg(), "AUROC against GFLOP", keys, note.strip())


def efficient(rows: Sequence[Row]) -> list[Row]:
    """Rows whose AUROC is higher than that of every row of fewer ``gflop``, the cheapest first."""
    found: list[Row] = []
    for row in sorted(rows, key=lambda row: (row.costs["gflop"], -row.estimates["AUROC"].value)):
        if not found or row.estimates["AUROC"].value > found[-1].estimates["AUROC"].value:
            found.append(row)
    return found


def auroc_axis(ends: Sequence[tuple[float, float]]) -> Axis:
    """An axis that holds chance and all figures, given as their smallest and largest values."""
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return Axis("AUROC", max(0.0, min(low, 0.5) - 0.03), min(1.0, max(high, 0.5) + 0.03))


def draw_top_k(part: Part, outputs: CellOutputs) -> list[Figure]:
    """Draws AUROC against the number of pixels whose mean is an image's score, absolute and as a share."""
    lines: dict[str, dict[str, list[_Point]]] = {"k, pixels": {}, "k, share of the foreground": {}}
    for row in part.leaders:
        cells = [cell for cell in outputs.done(part.cells[row.model]) if (outputs.folder(cell) / TOP_K).is_file()]
        runs = [aurocs_by_k(cell, outputs) for cell in cells]
        for column in runs[0] if runs else ():
            if all(column in run for run in runs):
                k, value = column.removeprefix("k="), float(np.mean([run[column] for run in runs]))
                unit = "k, pixels" if k.isdigit() else "k, share of the foreground"
                lines[unit].setdefault(row.model, []).append((float(k), value, value, value))
    return [_dependence(part, found, unit, band=False) for unit, found in lines.items() if found]


def aurocs_by_k(cell: Cell, outputs: CellOutputs) -> dict[str, float]:
    """AUROC of a finished cell by column, such as ``k=200``; none where the test has one class only."""
    path = outputs.folder(cell) / TOP_K
    table, ids = read_scores(path), read_scores(outputs.folder(cell) / SCORES)
    columns = [str(column) for column in table if str(column).startswith("k=")]
    merged = table[["image_path", *columns]].merge(
        ids[[name for name in ID_COLUMNS if name in ids]], on="image_path", validate="one_to_one"
    )
    if len(merged) != len(table):
        raise XrayError(f"{path} has images that {SCORES} beside it has not; run the cell again.")
    units = units_of(merged, outputs.grid.level, columns)
    if units is None or not has_both_classes([units]):
        return {}
    return {column: float(Ranking(units["label"], units[column]).auroc()[0]) for column in columns}


def draw_training_size(part: Part, outputs: CellOutputs) -> Figure | None:
    """Draws AUROC against the number of training images, where a model was trained with several."""
    lines: dict[str, list[_Point]] = {}
    for row in part.leaders:
        if row.model not in part.sized:
            continue
        runs: dict[int, list[pd.DataFrame]] = {}
        for cell in outputs.done(part.sized[row.model]):
            size = int(outputs.result(cell).get("training_images", cell.training_size or 0))
            runs.setdefault(size, []).append(outputs.units(cell, row.score))
        if size := int(row.costs.get("training_images", 0)):
            runs[size] = runs_of(row, part, outputs)
        points: list[_Point] = [(size, *aurocs(runs[size])) for size in runs if has_both_classes(runs[size])]
        if len(points) > 1:
            lines[row.model] = points
    return _dependence(part, lines, "training images", band=True) if lines else None


def _dependence(part: Part, lines: Mapping[str, list[_Point]], unit: str, *, band: bool) -> Figure:
    """Draws AUROC over a scale of ratios, a line per model; models without a colour are grey and lie below."""
    places = [place for points in lines.values() for place, *_ in points]
    values = [value for points in lines.values() for _, *values in points for value in values]
    axis = Axis(unit, min(places) / 1.1, max(places) * 1.1, log=True)
    title = f"AUROC against {unit}"
    chart = Chart(axis, auroc_axis([(min(values), max(values))]), f"{title}, {part.title}")
    chart.across(0.5, "chance", "chance")
    styles = _styles(part, list(lines))
    for model in sorted(lines, key=lambda model: styles[model] != "rest"):
        x, y, low, high = zip(*sorted(lines[model]), strict=True)
        if band and model == next(iter(lines)):
            chart.band(x, low, high, styles[model])
        chart.line(x, y, styles[model], model, markers=True)
    keys = [Key(styles[model], model) for model in lines if styles[model] != "rest"]
    if grey := len(lines) - len(keys):
        keys.append(Key("rest", "1 other" if grey == 1 else f"{grey} others"))
    return Figure(chart.svg(), title, keys, "Band: 95 % of draws of patients, for one model." if band else "")


def _styles(part: Part, models: list[str]) -> dict[str, str]:
    """Styles of the other charts; own colours if none of the models has a colour there."""
    if any(part.styles[model] != "rest" for model in models):
        return part.styles
    return dict.fromkeys(models, "rest") | {model: f"s{place}" for place, model in enumerate(models[:HIGHLIGHTS], 1)}


def _figure(row: Row, metric: str = "AUROC") -> str:
    return f"{row.estimates[metric].value:.3f}"
