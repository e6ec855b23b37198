"""The command that shows what a test found."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def report(
    runs: list[Path],
    out: Path = Path("report"),
    level: Literal["image", "study", "patient"] = "image",
    title: str | None = None,
) -> None:
    """Shows tested runs on one HTML page: figures with intervals, curves, cases.

    A run is a folder that anomalib train or test left, such as results/Cae/Phantom/latest. OUT/report.html is the page,
    one file for any browser, which loads nothing. Heat maps of the best and the worst cases, scores by k and figures by
    lesions are there if the run tested with anomalib_xray.experiments.evidence.Evidence among its trainer.callbacks.

    Args:
        runs: Folders of the runs; several of one data set stand in one table.
        out: Folder to write to.
        level: Unit of evaluation.
        title: Heading of the page.

    Raises:
        XrayError: A folder is no tested run, or runs of one data set tested other images.
    """
    from anomalib_xray.report.page import write_report
    from anomalib_xray.report.results import read_rows
    from anomalib_xray.report.runs import outputs_of_runs

    outputs = outputs_of_runs(runs, level, title)
    print(write_report(read_rows(outputs), outputs, out))
