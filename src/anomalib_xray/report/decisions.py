"""Decisions at the model's own threshold, percentiles, and the cross-check of intervals, as tables of the page."""

from __future__ import annotations

from math import isfinite

import numpy as np

from anomalib_xray.edge.result import RankScale
from anomalib_xray.evaluation.bootstrap import Estimate
from anomalib_xray.evaluation.conformal import exact_interval
from anomalib_xray.evaluation.ranking import Values
from anomalib_xray.report.findings import range_of
from anomalib_xray.report.page_tables import Entry, Table
from anomalib_xray.report.parts import Part, score_name
from anomalib_xray.report.results import CellOutputs
from anomalib_xray.report.rows import NORMAL_95, Row
from anomalib_xray.report.svg import Axis, Chart, Figure, Key

SHARES = ("sensitivity", "specificity", "PPV", "NPV")

PERCENTILES = (50, 80, 90, 95)
"""Percentiles that a reader would act on; beyond them normal patients are too few to tell."""


def decision_table(part: Part, selection: dict[str, str]) -> Table | None:
    """Shares of right decisions of each model that decides, with their intervals, and the decisions themselves."""
    rows = []
    for row in part.leaders:
        if not row.decisions:
            continue
        cell = part.cells[row.model][0]
        counts = " / ".join(f"{row.counts[name]:.3g}" for name in ("TP", "FP", "FN", "TN"))
        entries = [Entry(row.model), Entry(score_name(Row(*_key(row), "pred_score"), cell))]
        entries += [with_range(row.decisions.get(name), "figure" if name == "sensitivity" else "") for name in SHARES]
        rows.append([*entries, Entry(counts), Entry(selection.get(row.model, ""))])
    header = ["model", "score", *SHARES, "TP / FP / FN / TN", "chosen by"]
    return Table(part.title, header, rows) if rows else None


def _key(row: Row) -> tuple[str, str, bool, str]:
    return row.data, row.preparation, row.equalize, row.model


def with_range(estimate: Estimate | None, style: str = "") -> Entry:
    """A figure with its interval behind it; a dash for none."""
    if estimate is None or not isfinite(estimate.value):
        return Entry("–")
    if not isfinite(estimate.low):
        return Entry(f"{estimate.value:.3f}", estimate.value, style)
    return Entry(f"{estimate.value:.3f} ({range_of(estimate)})", estimate.value, style)


def cross_check(part: Part) -> Table | None:
    """Intervals of draws beside those without draws, for AUROC and for the difference from the baseline."""
    rows, gaps = [], []
    for row in part.leaders:
        auroc = row.estimates["AUROC"]
        entries = [Entry(row.model), Entry(f"{auroc.value:.3f}", auroc.value, "figure")]
        for drawn, analytic, sign in (
            (auroc, row.analytic.get("AUROC"), ""),
            (row.against.get("AUROC"), row.analytic.get("against"), "+"),
        ):
            if drawn is None or analytic is None or not isfinite(analytic.low):
                entries += [Entry()] * 2
                continue
            gaps.append(max(abs(drawn.low - analytic.low), abs(drawn.high - analytic.high)))
            entries += [Entry(range_of(one, sign), one.low) for one in (drawn, analytic)]
        rows.append([*entries[: None if part.baseline else 4], *([_p_value(row)] if part.baseline else [])])
    if not gaps:
        return None
    header = ["model", "AUROC", "95 % by draws", "95 % by DeLong"]
    if part.baseline:
        header += [f"AUROC - {part.baseline}, by draws", "by DeLong", "p"]
    note = f"The ends of these intervals differ by {max(gaps):.3f} at most, by {np.median(gaps):.3f} in the median."
    return Table(part.title, header, rows, [note])


def _p_value(row: Row) -> Entry:
    """Two-sided p of the difference from the baseline, of this one comparison."""
    from scipy.special import ndtr  # type: ignore[import-untyped]  # scipy has no stubs

    estimate = row.analytic.get("against")
    if estimate is None or not estimate.high > estimate.low:
        return Entry()
    p = 2 * float(ndtr(-abs(estimate.value) * NORMAL_95 / (estimate.high - estimate.value)))
    return Entry(f"{p:.3f}" if p >= 0.0005 else "< 0.001", p)


def percentiles_of(part: Part, outputs: CellOutputs) -> tuple[Table | None, Figure | None]:
    """Compares percentiles among normal validation patients with those that normal test patients reach.

    Returns:
        The shares of normal test patients at or above :data:`PERCENTILES`, and a chart of all percentiles.
    """
    rows, notes = [], list[str]()
    lines: dict[str, tuple[Values, Values]] = {}
    for row in part.leaders:
        found = []
        for validation, test in outputs.normal_patients(part.cells[row.model], row.score):
            if len(validation) and len(test):
                scale = RankScale.of_scores(validation)
                found.append(100 * np.interp(test, scale.values, scale.ranks, left=0, right=1))
                notes.append(f"{len(validation)} normal patients validate, {len(test)} test.")
        if not found:
            continue
        entries = [Entry(row.model), Entry(part.score(row))]
        for percentile in PERCENTILES:
            share = float(np.mean([np.mean(one >= percentile) for one in found]))
            entries.append(with_range(exact_interval(share, len(found[0]))))
        rows.append(entries)
        places = np.arange(0.0, 101.0, 2.0)
        lines[row.model] = (places, np.mean([[np.mean(one <= place) for place in places] for one in found], axis=0))
    if not rows:
        return None, None
    header = ["model", "score", *(f"at or above {one}: {1 - one / 100:.2g} expected" for one in PERCENTILES)]
    return Table(part.title, header, rows, list(dict.fromkeys(notes))), _percentile_chart(part, lines)


def _percentile_chart(part: Part, lines: dict[str, tuple[Values, Values]]) -> Figure:
    axes = Axis("percentile among normal validation patients", 0, 100), Axis("normal test patients at or below", 0, 1)
    chart = Chart(*axes, f"Calibration of percentiles, {part.title}")
    chart.line([0, 100], [0, 1], "chance", "as promised")
    for model in sorted(lines, key=lambda model: part.styles[model] != "rest"):
        chart.line(*lines[model], part.styles[model], model)
    keys = [Key(part.styles[model], model) for model in lines if part.styles[model] != "rest"]
    note = "Dotted: as promised. Above it normal patients of the test get lower percentiles than promised."
    return Figure(chart.svg(), "Percentiles of normal patients", keys, note)
