"""Charts of what a figure depends on: how many values of the map are averaged, how many images train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.curves import aurocs, has_both_classes
from anomalib_xray.evaluation.ranking import Ranking
from anomalib_xray.evaluation.units import ID_COLUMNS, read_scores, units_of
from anomalib_xray.experiments.grid import Cell
from anomalib_xray.experiments.train import SCORES, TOP_K
from anomalib_xray.report.charts import auroc_axis, runs_of
from anomalib_xray.report.material import HIGHLIGHTS, Material, Part
from anomalib_xray.report.svg import Axis, Chart, Figure, Key

_UNITS = {False: "k, pixels", True: "k, share of the foreground"}


def draw_top_k(part: Part, material: Material) -> list[Figure]:
    """Draws AUROC against the number of pixels whose mean is an image's score, absolute and as a share.

    Raises:
        XrayError: A table of a cell does not belong to its score table.
    """
    lines: dict[bool, dict[str, list[tuple[float, float]]]] = {False: {}, True: {}}
    for row in part.leaders:
        cells = [cell for cell in material.done(part.cells[row.model]) if (material.folder(cell) / TOP_K).is_file()]
        for column, value in _means([aurocs_by_k(cell, material) for cell in cells]).items():
            text = column.removeprefix("k=")
            is_share = not text.isdigit()
            lines[is_share].setdefault(row.model, []).append((float(text), value))
    return [
        _dependence(part, lines[kind], _UNITS[kind], f"AUROC against {_UNITS[kind]}") for kind in lines if lines[kind]
    ]


def aurocs_by_k(cell: Cell, material: Material) -> dict[str, float]:
    """AUROC of a finished cell by column, such as ``k=200``; none where the test has one class only.

    Raises:
        XrayError: The table does not belong to the cell's score table.
    """
    path = material.folder(cell) / TOP_K
    table, ids = read_scores(path), read_scores(material.folder(cell) / SCORES)
    columns = [str(column) for column in table if str(column).startswith("k=")]
    merged = table[["image_path", *columns]].merge(
        ids[[name for name in ID_COLUMNS if name in ids]], on="image_path", validate="one_to_one"
    )
    if len(merged) != len(table):
        raise XrayError(f"{path} has images that {SCORES} beside it has not; run the cell again.")
    units = units_of(merged, material.grid.level, columns)
    if units is None or not has_both_classes([units]):
        return {}
    return {column: float(Ranking(units["label"], units[column]).auroc()[0]) for column in columns}


def _means(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean over seeds of what all of them have."""
    common = [column for column in runs[0] if all(column in run for run in runs)] if runs else []
    return {column: float(np.mean([run[column] for run in runs])) for column in common}


def draw_training_size(part: Part, material: Material) -> Figure | None:
    """Draws AUROC against the number of training images, where a model was trained with several."""
    lines: dict[str, list[tuple[float, float]]] = {}
    bands: dict[str, list[tuple[float, float, float]]] = {}
    for row in part.leaders:
        if row.model not in part.sized:
            continue
        runs: dict[int, list[pd.DataFrame]] = {}
        for cell in material.done(part.sized[row.model]):
            size = int(material.result(cell).get("training_images", cell.training_size or 0))
            runs.setdefault(size, []).append(material.units(cell, row.score))
        size = int(row.costs.get("training_images", 0))
        if size:
            runs[size] = runs_of(row, part, material)
        for size in sorted(runs):
            if has_both_classes(runs[size]):
                value, low, high = aurocs(runs[size])
                lines.setdefault(row.model, []).append((size, value))
                bands.setdefault(row.model, []).append((size, low, high))
    # A single size is no curve.
    lines = {model: points for model, points in lines.items() if len(points) > 1}
    bands = {model: bands[model] for model in lines}
    if not lines:
        return None
    return _dependence(part, lines, "training images", "AUROC against training images", bands)


def _dependence(
    part: Part,
    lines: Mapping[str, list[tuple[float, float]]],
    unit: str,
    title: str,
    bands: Mapping[str, list[tuple[float, float, float]]] | None = None,
) -> Figure:
    """A chart with a line a model over a scale of ratios; models without a colour are grey and lie below."""
    bands = bands or {}
    places = [place for points in lines.values() for place, _ in points]
    values = [value for points in lines.values() for _, value in points]
    values += [end for points in bands.values() for _, *ends in points for end in ends]
    axis = Axis(unit, min(places) / 1.1, max(places) * 1.1, log=True)
    chart = Chart(axis, auroc_axis([(min(values), max(values))]), f"{title}, {part.title}")
    chart.across(0.5, "chance", "chance")
    styles = _styles(part, list(lines))
    order = sorted(lines, key=lambda model: styles[model] != "rest")
    for model in order:
        points = sorted(lines[model])
        if model in bands and model == next(iter(bands)):
            x, low, high = zip(*sorted(bands[model]), strict=True)
            chart.band(x, low, high, styles[model])
        x, y = zip(*points, strict=True)
        chart.line(x, y, styles[model], model, markers=True)
    keys = [Key(styles[model], model) for model in lines if styles[model] != "rest"]
    if grey := len(lines) - len(keys):
        keys.append(Key("rest", "1 other" if grey == 1 else f"{grey} others"))
    return Figure(chart.svg(), title, keys, "Band: 95 % of draws of patients, for one model." if bands else "")


def _styles(part: Part, models: list[str]) -> dict[str, str]:
    """The styles of the other charts; where none of the models has a colour there, colours of their own."""
    if any(part.styles[model] != "rest" for model in models):
        return part.styles
    return dict.fromkeys(models, "rest") | {model: f"s{place}" for place, model in enumerate(models[:HIGHLIGHTS], 1)}
