"""Predict many radiographs: overlays and tables of scores, or a stream of JSON with a line per image."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2

from anomalib_xray import NOTICE
from anomalib_xray.edge.ensemble import Ensemble
from anomalib_xray.edge.overlay import draw_overlay, enlargement
from anomalib_xray.edge.result import Result
from anomalib_xray.edge.scope import tags_of
from anomalib_xray.edge.table import columns_of, entry_of, printable, row_of, sentence_of, summary_of
from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom_tags import read_sop_instance_uid
from anomalib_xray.io.formats import is_dicom
from anomalib_xray.io.inputs import Input, images_of, with_list
from anomalib_xray.io.paths import absolute
from anomalib_xray.io.progress import track
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.io.read import decode_radiograph, read_bytes
from anomalib_xray.io.text import write_csv, write_json
from anomalib_xray.io.write import write_atomically

logger = logging.getLogger(__name__)

__all__ = ["predict_all", "predict_stream"]

_SCORES, _JSON_SCORES = "scores.csv", "scores.json"
"""The table with a row per image; the same and more as JSON, with every percentile and every view."""

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

    Arguments and exit status are those of :func:`anomalib_xray.commands.predict.predict`.
    """
    labels = list(ensemble.predictors)
    _check_overwriting(inputs, out, labels)
    rows: list[dict[str, str]] = []
    entries: list[dict[str, Any]] = []
    failed, interrupted = 0, False
    try:
        for image in track(inputs, "Predicting"):
            overlays = dict(zip(labels, _overlays_of(image, out, labels), strict=True))
            below = {label: overlay.relative_to(out) for label, overlay in overlays.items()}
            try:
                results, uid = _predict_one(
                    ensemble, image, overlays, threshold, dicom_sc=dicom_sc, keep_patient=keep_patient
                )
            except XrayError as error:
                path, said = printable(image.path), printable(error)
                failed += 1
                rows.append({"path": path, "error": said})
                entries.append(entry_of(image.path, error=said))
                print(f"error: {said if path in said else f'{path}: {said}'}", file=sys.stderr)
                continue
            fused = ensemble.fused(results)
            rows.append(row_of(image.path, results, fused, below))
            entries.append(entry_of(image.path, results, fused, below, uid=uid))
            print(sentence_of(image.path, results, fused))
    except KeyboardInterrupt:
        interrupted = True
    finally:
        write_csv(out / _SCORES, columns_of(ensemble), rows)
        write_json(out / _JSON_SCORES, summary_of(ensemble, entries), allow_nan=False)
    if interrupted:
        print(f"Stopped after {len(rows)} of {len(inputs)} images; their overlays and {_SCORES} are in {out}.")
        return 130
    print(f"{len(rows) - failed} of {len(rows)} images predicted; overlays and {_SCORES} are in {out}.")
    return 1 if failed else 0


def predict_stream(ensemble: Ensemble, given: Iterable[Path], threshold: float | None) -> int:
    """Prints a line of JSON for each image as soon as it is known, and writes no file.

    ``given`` are files, folders, and ``-`` for the files that standard input names, however slowly and however many;
    the rest is as of :func:`predict_all`.
    """
    failed = False
    try:
        for path in track(_streamed(given), "Predicting"):
            try:
                results, uid, *_ = _scored(ensemble, path, threshold)
                entry = entry_of(path, results, ensemble.fused(results), uid=uid)
            except XrayError as error:
                failed = True
                entry = entry_of(path, error=printable(error))
            print(json.dumps({**entry, "notice": NOTICE}, allow_nan=False), flush=True)
    except KeyboardInterrupt:
        return 130
    return 1 if failed else 0


def _streamed(given: Iterable[Path]) -> Iterator[Path]:
    """The images of arguments; a folder without any stands for itself, as one that cannot be read."""
    for argument in given:
        if argument == Path("-"):
            yield from with_list([argument])
            continue
        try:
            yield from images_of(argument)
        except XrayError as error:
            logger.warning("%s", error)
            yield argument


def _overlays_of(image: Input, out: Path, labels: Sequence[str]) -> list[Path]:
    """Files for the overlays of one image: one per bundle, in a folder for each where there are several."""
    if len(labels) == 1:
        return [image.overlay]
    return [out / label / image.overlay.relative_to(out) for label in labels]


def _check_overwriting(inputs: Sequence[Input], out: Path, labels: Sequence[str]) -> None:
    """Refuses to write over an image that is to be predicted."""
    given = {absolute(image.path) for image in inputs}
    for overlay in (overlay for image in inputs for overlay in _overlays_of(image, out, labels)):
        for path in (overlay, overlay.with_suffix(_CAPTURE)):
            if absolute(path) in given:
                raise XrayError(f"{path} is an image and would be replaced: choose another folder than {out}.")


def _scored(
    ensemble: Ensemble, path: Path, threshold: float | None, *, keep_content: bool = False
) -> tuple[dict[str, Result], str | None, Radiograph, bytes]:
    """Results for a file, its identifier in DICOM, the radiograph, and the file's content if it is kept."""
    content, notes = read_bytes(path), list[str]()
    image = decode_radiograph(content, name=str(path), notes=notes)
    tags, uid = tags_of(content, path), read_sop_instance_uid(content)
    if not keep_content:
        content = b""  # 20 MB of a detector's picture
    return ensemble.predict(image, threshold=threshold, tags=tags, flags=notes), uid, image, content


def _predict_one(
    ensemble: Ensemble,
    image: Input,
    overlays: Mapping[str, Path],
    threshold: float | None,
    *,
    dicom_sc: bool,
    keep_patient: bool,
) -> tuple[dict[str, Result], str | None]:
    """Predicts one image and draws its overlays; returns the results, and its identifier in DICOM."""
    results, uid, radiograph, content = _scored(ensemble, image.path, threshold, keep_content=dicom_sc)
    for label, result in results.items():
        picture = draw_overlay(radiograph, result, printable(image.name))
        write_atomically(overlays[label], cv2.imencode(".png", picture)[1].tobytes())
        if not dicom_sc:
            continue
        from anomalib_xray.io.dicom_write import encode_secondary_capture, map_description

        capture = encode_secondary_capture(
            picture if keep_patient else draw_overlay(radiograph, result, ""),  # a file's name may be a patient's
            source=content,
            keep_patient=keep_patient and is_dicom(content),
            description=map_description(label),
            series=result.bundle_digest,  # one series per bundle
            scale=enlargement(radiograph),
            name=f"The capture of {image.path}",
            source_name=str(image.path),
        )
        write_atomically(overlays[label].with_suffix(_CAPTURE), capture)
    return results, uid
