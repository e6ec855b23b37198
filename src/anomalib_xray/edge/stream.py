"""Predict radiographs as they are named: a line of JSON for each at once, and no file."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from anomalib_xray.edge.bundle import NOTICE
from anomalib_xray.edge.ensemble import Ensemble
from anomalib_xray.edge.inputs import images_of, with_list
from anomalib_xray.edge.scope import tags_of
from anomalib_xray.edge.table import Line, entry_of, printable
from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom_tags import read_sop_instance_uid
from anomalib_xray.io.progress import track
from anomalib_xray.io.read import decode_radiograph, read_bytes

logger = logging.getLogger(__name__)


def predict_stream(ensemble: Ensemble, given: Iterable[Path], threshold: float | None) -> int:
    """Predicts image after image and prints a line of JSON for each as soon as it is known.

    Args:
        ensemble: The bundles.
        given: Files, folders, and ``-`` for the files that standard input names, however slowly and however many.
        threshold: Raw threshold to decide by instead of the bundle's own.

    Returns:
        Exit status: 0, 1 if an image could not be used, 130 if interrupted.

    """
    failed = False
    try:
        for path in track(_paths(given), "Predicting"):
            line = _predict_one(ensemble, path, threshold)
            failed |= bool(line.error)
            print(json.dumps({**entry_of(line), "notice": NOTICE}, allow_nan=False), flush=True)
    except KeyboardInterrupt:
        return 130
    return 1 if failed else 0


def _paths(given: Iterable[Path]) -> Iterator[Path]:
    for argument in given:
        if argument == Path("-"):
            yield from with_list([argument])
        else:
            yield from _images_of(argument)


def _images_of(argument: Path) -> Iterator[Path]:
    """The images of an argument; a folder without any stands for itself, as one that cannot be read."""
    try:
        yield from images_of(argument)
    except XrayError as error:
        logger.warning("%s", error)
        yield argument


def _predict_one(ensemble: Ensemble, path: Path, threshold: float | None) -> Line:
    try:
        notes: list[str] = []
        content = read_bytes(path)
        radiograph = decode_radiograph(content, name=str(path), notes=notes)
        reading = ensemble.predict(radiograph, threshold=threshold, tags=tags_of(content, path), flags=notes)
        return Line(path, reading, sop_instance_uid=read_sop_instance_uid(content))
    except XrayError as error:
        return Line(path, None, printable(error))
