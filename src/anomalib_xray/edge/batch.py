"""Predict many radiographs: overlays and tables of scores, or a stream of JSON with a line per image."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from anomalib_xray import NOTICE, __version__
from anomalib_xray.edge.ensemble import Ensemble
from anomalib_xray.edge.overlay import draw_overlay, enlargement
from anomalib_xray.edge.result import Result
from anomalib_xray.edge.scope import tags_of
from anomalib_xray.edge.table import columns_of, entry_of, printable, row_of, sentence_of, summary_of
from anomalib_xray.errors import XrayError
from anomalib_xray.freed_memory import hand_back_large_arrays
from anomalib_xray.io.dicom_tags import read_sop_instance_uid
from anomalib_xray.io.formats import is_dicom
from anomalib_xray.io.inputs import Input, images_of, with_list
from anomalib_xray.io.paths import absolute, fitted
from anomalib_xray.io.progress import track
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.io.read import decode_radiograph, read_bytes
from anomalib_xray.io.text import read_json, write_csv, write_json
from anomalib_xray.io.write import write_atomically
from anomalib_xray.preparation.sources import patient_and_study
from anomalib_xray.shards import Shard

logger = logging.getLogger(__name__)

__all__ = ["predict_all", "predict_stream"]

_SCORES, _JSON_SCORES = "scores.csv", "scores.json"
"""The table with a row per image; the same and more as JSON, with every percentile and every view."""

_CAPTURE = ".dcm"

_RECORDS = ".predictions"
"""Folder below that of the tables with the row and the entry of each image, where shards predict."""


def predict_all(
    ensemble: Ensemble,
    inputs: Sequence[Input],
    out: Path,
    threshold: float | None,
    *,
    dicom_sc: bool = False,
    keep_patient: bool = False,
    shard: Shard | None = None,
) -> int:
    """Predicts, draws and reports image after image, and writes the scores, however it ends.

    A shard leaves records in the place of tables, and a run without one takes up those that it finds. Other arguments
    and the exit status are those of :func:`anomalib_xray.commands.predict.predict`.
    """
    hand_back_large_arrays()
    _check_overwriting(inputs, out, list(ensemble.predictors))
    about, said = summary_of(ensemble, ()), list[_Said]()
    kept, interrupted, records = 0, False, None
    if shard is not None or (out / _RECORDS).is_dir():
        records = _Records(out, [__version__, about, threshold, dicom_sc, keep_patient])
    if shard is not None:
        inputs = [image for image in inputs if shard.holds(_unit_of(image))]
    try:
        for image in track(inputs, "Predicting"):
            if records is not None and (known := records.read(image)) is not None:
                kept += 1
                said.append(known)
                continue
            said.append(_say(ensemble, image, out, threshold, dicom_sc=dicom_sc, keep_patient=keep_patient))
            if records is not None and not said[-1].failed:
                records.write(image, said[-1])
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if shard is None:
            write_csv(out / _SCORES, columns_of(ensemble), [one.row for one in said])
            write_json(out / _JSON_SCORES, {**about, "images": [one.entry for one in said]}, allow_nan=False)
    written = f"overlays{f' and {_SCORES}' if shard is None else ''}"
    if interrupted:
        print(f"Stopped after {len(said)} of {len(inputs)} images; their {written} are in {out}.")
        return 130
    failed = sum(one.failed for one in said)
    before = f", {kept} of them before" if kept else ""
    print(f"{len(said) - failed} of {len(said)} images predicted{before}; {written} are in {out}.")
    if shard is not None:
        print(f"Shard {shard} has ended; the same command without --shard writes {_SCORES}.")
    return 1 if failed else 0


@dataclass(frozen=True)
class _Said:
    """What is written of an image: its row, its entry, and the files beside the tables."""

    row: dict[str, str]
    entry: dict[str, Any]
    files: list[str]

    @property
    def failed(self) -> bool:
        return self.entry["error"] is not None


def _say(
    ensemble: Ensemble, image: Input, out: Path, threshold: float | None, *, dicom_sc: bool, keep_patient: bool
) -> _Said:
    """Predicts an image, draws its overlays and prints its sentence, or why it could not be used."""
    labels = list(ensemble.predictors)
    overlays = dict(zip(labels, _overlays_of(image, out, labels), strict=True))
    try:
        results, uid = _predict_one(ensemble, image, overlays, threshold, dicom_sc=dicom_sc, keep_patient=keep_patient)
    except XrayError as error:
        path, said = printable(image.path), printable(error)
        print(f"error: {said if path in said else f'{path}: {said}'}", file=sys.stderr)
        return _Said({"path": path, "error": said}, entry_of(image.path, error=said), [])
    fused = ensemble.fused(results)
    print(sentence_of(image.path, results, fused))
    below = {label: overlay.relative_to(out) for label, overlay in overlays.items()}
    return _Said(
        row_of(image.path, results, fused, below),
        entry_of(image.path, results, fused, below, uid=uid),
        [path.as_posix() for path in _files(below.values(), dicom_sc=dicom_sc)],
    )


def _unit_of(image: Input) -> str:
    """What the shard of an image is told by: its patient, or the file itself where none is known."""
    name = image.name.as_posix()
    return patient_and_study(name)[0] or name


class _Records:
    """Predictions of single images, each in a file of its own, since several processes may write at the same time.

    Args:
        out: Folder of the overlays.
        settings: What a prediction depends on besides its image, as JSON values.
    """

    def __init__(self, out: Path, settings: Sequence[Any]) -> None:
        self._out, self._settings = out, list(settings)

    def read(self, image: Input) -> _Said | None:
        """What was said of an image; ``None`` if that is unknown, or was of another file or other settings."""
        try:
            record = read_json(self._path(image))
            said = _Said(record["row"], record["entry"], record["files"])
            is_known = record["key"] == self._key(image) and all((self._out / file).is_file() for file in said.files)
        except (XrayError, KeyError, TypeError, OSError):
            return None
        return said if is_known else None

    def write(self, image: Input, said: _Said) -> None:
        """Keeps what was said of an image whose files are written."""
        write_json(self._path(image), {"key": self._key(image), **vars(said)})

    def _path(self, image: Input) -> Path:
        overlay = self._out / _RECORDS / image.overlay.relative_to(self._out)
        return overlay.with_name(fitted(overlay.stem, ".json"))

    def _key(self, image: Input) -> str:
        """Hash of what the prediction depends on; of the file its size and time, since a merge need not read it."""
        about = image.path.stat()
        parts = [*self._settings, str(image.path), about.st_size, about.st_mtime_ns]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def predict_stream(ensemble: Ensemble, given: Iterable[Path], threshold: float | None) -> int:
    """Prints a line of JSON for each image as soon as it is known, and writes no file.

    ``given`` are files, folders, and ``-`` for the files that standard input names, however slowly and however many;
    the rest is as of :func:`predict_all`.
    """
    hand_back_large_arrays()
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


def _files(overlays: Iterable[Path], *, dicom_sc: bool) -> list[Path]:
    """Files that are written for an image with these overlays."""
    return [path for overlay in overlays for path in (overlay, *([overlay.with_suffix(_CAPTURE)] if dicom_sc else []))]


def _check_overwriting(inputs: Sequence[Input], out: Path, labels: Sequence[str]) -> None:
    """Refuses to write over an image that is to be predicted."""
    given = {absolute(image.path) for image in inputs}
    for image in inputs:
        for path in _files(_overlays_of(image, out, labels), dicom_sc=True):
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
