"""Predict many radiographs: overlays for each, and their scores as a table and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from anomalib_xray.edge.ensemble import Ensemble
from anomalib_xray.edge.inputs import Input
from anomalib_xray.edge.overlay import Picture, draw_overlay, enlargement
from anomalib_xray.edge.result import Result
from anomalib_xray.edge.scope import tags_of
from anomalib_xray.edge.table import Line, as_csv, as_json, entry_of, printable, row_of, sentence_of
from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom_tags import read_sop_instance_uid
from anomalib_xray.io.formats import is_dicom
from anomalib_xray.io.paths import absolute
from anomalib_xray.io.progress import track
from anomalib_xray.io.read import decode_radiograph, read_bytes
from anomalib_xray.io.write import write_atomically

__all__ = ["JSON_SCORES", "SCORES", "predict_all", "printable"]

SCORES = "scores.csv"
"""Table that a prediction leaves: a row an image."""

JSON_SCORES = "scores.json"
"""The same and more as JSON: every named score with its percentile, and every view."""

_CAPTURE = ".dcm"


def predict_all(
    ensemble: Ensemble,
    inputs: Sequence[Input],
    out: Path,
    threshold: float | None,
    *,
    dicom_sc: bool = False,
    keep_patient: bool = False,
) -> int:
    """Predicts, draws and reports image after image, and writes the scores, however it ends.

    Args:
        ensemble: The bundles.
        inputs: The images.
        out: Folder for the scores.
        threshold: Raw threshold to decide by instead of the bundle's own.
        dicom_sc: Whether each overlay is written as a DICOM secondary capture too.
        keep_patient: Whether the capture of a DICOM file names its patient and study and refers to it.

    Returns:
        Exit status: 0, 1 if an image could not be used, 130 if interrupted.

    Raises:
        XrayError: An overlay would replace an image, or the scores cannot be written.
    """
    labels = list(ensemble.predictors)
    _check_spared(inputs, out, labels)
    rows: list[dict[str, str]] = []
    entries: list[dict[str, Any]] = []
    interrupted = False
    try:
        for image in track(inputs, "Predicting"):
            line = _predict_one(ensemble, image, out, threshold, dicom_sc=dicom_sc, keep_patient=keep_patient)
            # Not the line itself: it holds the heat maps.
            rows.append(row_of(line))
            entries.append(entry_of(line))
            print(sentence_of(line), file=sys.stderr if line.error else sys.stdout)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        write_atomically(out / SCORES, as_csv(ensemble, rows))
        write_atomically(out / JSON_SCORES, as_json(ensemble, entries))
    failed = sum(bool(row["error"]) for row in rows)
    if interrupted:
        print(f"Stopped after {len(rows)} of {len(inputs)} images; their overlays and {SCORES} are in {out}.")
        return 130
    print(f"{len(rows) - failed} of {len(rows)} images predicted; overlays and {SCORES} are in {out}.")
    return 1 if failed else 0


def overlays_of(image: Input, out: Path, labels: Sequence[str]) -> list[Path]:
    """Files for the overlays of one image: one a bundle, in a folder for each where there are several."""
    if len(labels) == 1:
        return [image.overlay]
    return [out / label / image.overlay.relative_to(out) for label in labels]


def _check_spared(inputs: Sequence[Input], out: Path, labels: Sequence[str]) -> None:
    """Refuses to write over an image that is to be predicted."""
    given = {absolute(image.path) for image in inputs}
    for image in inputs:
        for overlay in overlays_of(image, out, labels):
            for path in (overlay, overlay.with_suffix(_CAPTURE)):
                if absolute(path) in given:
                    raise XrayError(f"{path} is an image and would be replaced: choose another folder than {out}.")


def _predict_one(
    ensemble: Ensemble, image: Input, out: Path, threshold: float | None, *, dicom_sc: bool, keep_patient: bool
) -> Line:
    """Predicts one image and draws its overlays."""
    labels = list(ensemble.predictors)
    overlays = overlays_of(image, out, labels)
    try:
        content = read_bytes(image.path)
        notes: list[str] = []
        radiograph = decode_radiograph(content, name=str(image.path), notes=notes)
        tags, uid = tags_of(content, image.path), read_sop_instance_uid(content)
        if not dicom_sc:
            content = b""  # of a detector's picture, 20 MB that nobody needs any more
        reading = ensemble.predict(radiograph, threshold=threshold, tags=tags, flags=notes)
        for overlay, (label, result) in zip(overlays, reading.results.items(), strict=True):
            picture = draw_overlay(radiograph, result, printable(image.name))
            write_atomically(overlay, cv2.imencode(".png", picture)[1].tobytes())
            if dicom_sc:
                scale = enlargement(radiograph)
                if not keep_patient:  # a file's name may be a patient's
                    picture = draw_overlay(radiograph, result, "")
                capture = _captured(picture, label, result, image, content, scale=scale, keep_patient=keep_patient)
                write_atomically(overlay.with_suffix(_CAPTURE), capture)
    except XrayError as error:
        return Line(image.path, None, printable(error))
    below = [overlay.relative_to(out) for overlay in overlays]
    return Line(image.path, reading, overlays=dict(zip(labels, below, strict=True)), sop_instance_uid=uid)


def _captured(
    picture: Picture, label: str, result: Result, image: Input, content: bytes, *, scale: float, keep_patient: bool
) -> bytes:
    """The secondary capture of an overlay of a radiograph with this ``content``: one series per bundle."""
    from anomalib_xray.io.dicom_write import encode_secondary_capture, map_description

    return encode_secondary_capture(
        picture,
        source=content,
        keep_patient=keep_patient and is_dicom(content),
        description=map_description(label),
        series=result.bundle_digest,
        scale=scale,
        name=f"The capture of {image.path}",
        source_name=str(image.path),
    )
