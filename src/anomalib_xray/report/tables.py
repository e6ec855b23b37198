"""Files with the table of a benchmark: Markdown, LaTeX, CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from anomalib_xray import NOTICE
from anomalib_xray.experiments.grid import Grid
from anomalib_xray.io.write import write_atomically
from anomalib_xray.report.results import PIXEL, as_frame
from anomalib_xray.report.rows import Row, part_title

RULES = (
    "The split is fixed and by patient; the model's seed varies. Thresholds are fitted on validation; the test images "
    "were scored once. AUROC is the mean over seeds ± its standard deviation, with the 95 % interval of 2,000 draws of "
    "patients in brackets. AP is to be read against the prevalence, which is chance. The difference from the baseline "
    "is taken within each draw. An interval is of one figure alone; what the notes call clear, and below chance, stays "
    "so when all comparisons of all tables are counted. Shortcuts are numbers of a picture that need no model, in the "
    "direction that tells validation images apart: where one clearly tells the classes apart, the data leak their "
    "label."
)


def write_tables(rows: Sequence[Row], grid: Grid, out: Path) -> list[Path]:
    """Writes the table in three forms and returns the files."""
    frame = as_frame(rows, grid)
    contents = {
        "results.csv": frame.to_csv(index=False),
        "results.md": _markdown(frame, grid),
        "results.tex": _latex(frame, grid),
    }
    for name, content in contents.items():
        write_atomically(out / name, content)
    return [out / name for name in contents]


def _markdown(frame: pd.DataFrame, grid: Grid) -> str:
    lines = [f"# {grid.title}", "", f"**{NOTICE}**", "", f"By {grid.level}. {RULES}"]
    for name, part in frame.groupby("data", sort=False):
        overview = by_preparation(part)
        if overview.shape[1] > 1:
            lines += ["", f"## {name}, AUROC by preparation", "", "Mean ± standard deviation over the seeds.", ""]
            lines += [f"| model | score | {' | '.join(map(str, overview))} |", "|---" * (2 + overview.shape[1]) + "|"]
            lines += [f"| {' | '.join(map(str, texts))} |" for texts in overview.reset_index().to_numpy().tolist()]
    header = _columns(grid, frame)
    for title, part in _parts(frame):
        prevalence = part["prevalence"].dropna()
        share = f", {prevalence.iloc[0]:.1%} abnormal" if len(prevalence) else ""
        lines += ["", f"## {title}{share}", ""]
        lines += ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
        for _, row in part.iterrows():
            lines.append("| " + " | ".join(form(row) for form in header.values()) + " |")
    return "\n".join(lines) + "\n"


def _parts(frame: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Title and rows of each part."""
    for (data, preparation, equalize), part in frame.groupby(["data", "preparation", "equalize"], sort=False):
        yield part_title(str(data), str(preparation), bool(equalize)), part


def by_preparation(frame: pd.DataFrame) -> pd.DataFrame:
    """AUROCs of one data set in the layout of the paper's Table 1 (arXiv 2001.10883).

    Returns:
        A row per model and score, a column per preparation without and with equalisation; an en dash for no result.
    """
    columns = frame["preparation"] + frame["equalize"].map({True: ", equalised", False: ""})
    texts = [
        f"{_number(value)} ± {_number(std)}" if isfinite(std) else _number(value) or "–"
        for value, std in zip(frame["AUROC"], frame["AUROC_std"], strict=True)
    ]
    table = frame.assign(column=columns, text=texts).pivot(index=["model", "score"], columns="column", values="text")
    rows = frame[["model", "score"]].drop_duplicates().itertuples(index=False, name=None)
    return table.reindex(index=pd.MultiIndex.from_tuples(rows), columns=list(dict.fromkeys(columns))).fillna("–")


def _latex(frame: pd.DataFrame, grid: Grid) -> str:
    header = _columns(grid, frame)
    lines = [r"\begin{tabular}{" + "l" * len(header) + "}", r"\hline"]
    for title, part in _parts(frame):
        lines += [rf"\multicolumn{{{len(header)}}}{{l}}{{\textbf{{{_escaped(title)}}}}} \\"]
        lines += [" & ".join(map(_escaped, header)) + r" \\", r"\hline"]
        lines += [" & ".join(_escaped(form(row)) for form in header.values()) + r" \\" for _, row in part.iterrows()]
        lines.append(r"\hline")
    return "\n".join([*lines, r"\end{tabular}"]) + "\n"


def _columns(grid: Grid, frame: pd.DataFrame) -> dict[str, Callable[[pd.Series[Any]], str]]:
    """Heading and text of each column."""
    columns: dict[str, Callable[[pd.Series[Any]], str]] = {
        "model": lambda row: str(row["model"]),
        "score": lambda row: str(row["score"]),
        "AUROC": lambda row: _figure(row["AUROC"], row["AUROC_std"], row["AUROC_low"], row["AUROC_high"]),
        "AP": lambda row: _number(row["AP"]),
        "sensitivity at 90 % specificity": lambda row: _number(row["sensitivity_at_90"]),
    }
    if grid.baseline is not None:
        columns[f"AUROC - {grid.baseline}"] = lambda row: _figure(
            row["against_baseline"], float("nan"), row["against_low"], row["against_high"], sign="+"
        )
    if frame["pixel_AUROC"].notna().any():
        columns["pixel AUROC / AUPRO / best Dice"] = lambda row: " / ".join(
            filter(None, (_number(row[f"pixel_{name}"]) for name in PIXEL))
        )
    columns |= {
        "chosen by": lambda row: str(row["selection"]),
        "training s": lambda row: _number(row["training_s"], ".0f"),
        "ms an image": lambda row: _number(row["ms_an_image"], ".1f"),
        "GFLOP": lambda row: _number(row["gflop"], ".2f"),
        "GiB": lambda row: _number(row["peak_memory_gib"], ".1f"),
        "notes": lambda row: str(row["notes"]),
    }
    return columns


def _figure(value: float, deviation: float, low: float, high: float, sign: str = "") -> str:
    if not isfinite(value):
        return ""
    spread = f" ± {_number(deviation)}" if isfinite(deviation) else ""
    return f"{_number(value, f'{sign}.3f')}{spread} [{_number(low, f'{sign}.3f')}, {_number(high, f'{sign}.3f')}]"


def _number(value: float, form: str = ".3f") -> str:
    return format(value, form) if isfinite(value) else ""


def _escaped(text: str) -> str:
    replacements = {"\\": r"\textbackslash{}", "±": r"$\pm$", **{sign: "\\" + sign for sign in "&%$#_{}"}}
    return "".join(replacements.get(sign, sign) for sign in text)
