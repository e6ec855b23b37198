"""Predict many radiographs: an overlay for each, and one table of their scores."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
from rich.progress import track

from anomalib_xray.edge.inputs import Input
from anomalib_xray.edge.overlay import VERDICTS, draw_overlay
from anomalib_xray.edge.runtime import Prediction, Runtime
from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.write import write_atomically

SCORES = "scores.csv"
"""Table that a prediction leaves: a row an image."""

COLUMNS = ("path", "score", "normalised", "threshold", "label", "error")
"""Its columns; scores are raw, cells of what is unknown are empty."""

_QUIET_IMAGES = 30  # a few seconds need no progress bar


def predict_all(runtime: Runtime, inputs: Sequence[Input], out: Path, threshold: float | None) -> int:
    """Predicts, draws and reports image after image, and writes the table, however it ends.

    Args:
        runtime: The model.
        inputs: The images.
        out: Folder for the table.
        threshold: Raw threshold to decide by instead of the bundle's own.

    Returns:
        Exit status: 0, 1 if an image could not be used, 130 if interrupted.

    Raises:
        XrayError: The table cannot be written.
    """
    rows: list[dict[str, str]] = []
    interrupted = False
    quiet = len(inputs) < _QUIET_IMAGES or not sys.stdout.isatty()
    try:
        for image in track(inputs, "Predicting", transient=True, disable=quiet):
            rows.append(_predict_one(runtime, image, threshold))
    except KeyboardInterrupt:
        interrupted = True
    finally:
        _write_table(out / SCORES, rows)
    failed = sum(bool(row["error"]) for row in rows)
    if interrupted:
        print(f"Stopped after {len(rows)} of {len(inputs)} images; their overlays and {SCORES} are in {out}.")
        return 130
    print(f"{len(rows) - failed} of {len(rows)} images predicted; overlays and {SCORES} are in {out}.")
    return 1 if failed else 0


def _predict_one(runtime: Runtime, image: Input, threshold: float | None) -> dict[str, str]:
    """Predicts, draws and reports one image.

    Returns:
        Its row of the table.
    """
    path = printable(image.path)
    try:
        radiograph = read_radiograph(image.path)
        prediction = runtime.predict(radiograph, threshold=threshold)
        overlay = draw_overlay(radiograph, prediction, printable(image.name))
        write_atomically(image.overlay, cv2.imencode(".png", overlay)[1].tobytes())
    except XrayError as error:
        reason = printable(error)
        print(f"error: {reason if path in reason else f'{path}: {reason}'}", file=sys.stderr)
        return dict.fromkeys(COLUMNS, "") | {"path": path, "error": reason}
    limit = "none" if prediction.threshold is None else f"{prediction.threshold:.4g}"
    print(f"{path}: score {prediction.score:.4g}, threshold {limit}, {VERDICTS[prediction.is_anomalous]}")
    return _row(path, prediction)


def _row(path: str, prediction: Prediction) -> dict[str, str]:
    return {
        "path": path,
        "score": _number(prediction.score),
        "normalised": _number(prediction.normalised),
        "threshold": _number(prediction.threshold),
        "label": "" if prediction.is_anomalous is None else VERDICTS[prediction.is_anomalous],
        "error": "",
    }


def _write_table(path: Path, rows: Sequence[dict[str, str]]) -> None:
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, table.getvalue())


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"


def printable(value: object) -> str:
    """Text without the characters that a terminal would obey and without bytes that are no UTF-8."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(value))
