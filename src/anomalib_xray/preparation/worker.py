"""One radiograph from file to file: the work of a worker process."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Literal

import cv2
import numpy as np

from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom import DICOM_READER
from anomalib_xray.io.formats import SUFFIXES, is_dicom
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.io.read import decode_radiograph, read_anomaly_mask, read_bytes
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation.history import encode_history
from anomalib_xray.preparation.manifest import Row, rows_of
from anomalib_xray.preparation.mapping import to_prepared
from anomalib_xray.preparation.pipeline import Pipeline, Prepared
from anomalib_xray.preparation.record import MANIFEST, Output, Record, read_record, write_record
from anomalib_xray.preparation.sources import Source, prepared_name

_OF_ITS_NAME = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST)
"""Errors of writing that are due to one radiograph's name, such as a folder in its place."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a radiograph in this run, with its rows of the manifest.

    It was ``prepared``, ``kept`` as an earlier run left it, or ``failed``.
    """

    done: Literal["prepared", "kept", "failed"]
    rows: list[Row]


@dataclass(frozen=True)
class Job:
    """The common settings of all radiographs of a run; small, because it travels with each of them.

    Attributes:
        root: Folder of the raw radiographs.
        out: Folder of the prepared ones.
        settings: The steps' settings as JSON, as of :attr:`anomalib_xray.preparation.pipeline.Pipeline.settings`.
        folder: Folder in which relative paths in the settings start.
        replay: Folder of prepared pictures whose records are replayed; None to look at each picture.
    """

    root: Path
    out: Path
    settings: str
    folder: Path
    replay: Path | None = None

    def pipeline(self) -> Pipeline:
        """The pipeline; made once per process, because models may hang on it."""
        return _pipeline(self.settings, self.folder)


def prepare_source(job: Job, source: Source) -> Outcome:
    """Prepare a radiograph, unless its record says that this is done.

    The outputs are written first and the record last, each in one step, so that a process may die at any time. The
    reason for a failure is in the outcome and in its rows.

    Raises:
        XrayError: An output or the record cannot be written, so that nothing else could be either.
    """
    # Each worker has a core of its own; threads of OpenCV would only fight over it.
    cv2.setNumThreads(1)
    try:
        return _prepare(job, source)
    except XrayError as error:
        if getattr(error.__cause__, "errno", None) not in _OF_ITS_NAME:  # a full disk, say, ends the run
            raise
        # Its record has the same name and cannot be written either.
        return Outcome("failed", rows_of(source, Record(source.name, "", "", (0, 0), (), str(error))))


def _prepare(job: Job, source: Source) -> Outcome:
    earlier = read_record(job.out, source.name)
    try:
        content = read_bytes(job.root / source.name)
        sha256 = hashlib.sha256(content).hexdigest()
    except XrayError as error:
        return _fail(job, source, "", _problem(source) or error, earlier)
    try:
        if problem := _problem(source):
            raise problem
        pipeline = job.pipeline()
        recorded = _recorded(job, source)
        reader = DICOM_READER if is_dicom(content) else 0
        key = _key(job, source, sha256, pipeline.fingerprints(source.name), recorded, reader)
        if earlier is not None and earlier.key == key and _is_complete(job.out, earlier):
            return Outcome("kept", rows_of(source, earlier))
        notes: list[str] = []
        image = decode_radiograph(content, name=source.name, notes=notes)
        if recorded is None:
            known = [output.history for output in earlier.outputs] if earlier and earlier.sha256 == sha256 else []
            pictures = pipeline.prepare(image, source.name, known)
        else:
            if image.shape != recorded.shape:
                raise XrayError(f"it has {image.shape} pixels and what was recorded is for {recorded.shape}")
            pictures = [pipeline.replay(image, output.history) for output in recorded.outputs]
        names = _output_names(job.root, source.name, len(pictures))
        masks = _masks(job, source, image, pictures)
    except Exception as error:  # whatever a step raises is a row of the manifest
        return _fail(job, source, sha256, error, earlier)
    outputs = _write(job, pictures, names, masks)
    record = Record(source.name, sha256, key, _shape(image), outputs, "", tuple(notes))
    _commit(job, record, earlier, keep_masks=bool(source.mask_as))
    return Outcome("prepared", rows_of(source, record))


def give_up(job: Job, source: Source) -> Outcome:
    """Record a radiograph that killed the process which was to prepare it."""
    error = XrayError(f"{source.name} killed the process that prepared it: the file is damaged, or memory ran out.")
    return _fail(job, source, "", error, read_record(job.out, source.name))


@lru_cache(maxsize=4)
def _pipeline(settings: str, folder: Path) -> Pipeline:
    return Pipeline(json.loads(settings), folder)


def _problem(source: Source) -> XrayError | None:
    return XrayError(f"{source.name}: {source.problem}.") if source.problem else None


def _recorded(job: Job, source: Source) -> Record | None:
    """The record of an earlier run for an original of the same name."""
    if job.replay is None:
        return None
    record = read_record(job.replay, source.name)
    if record is None or record.error:
        raise XrayError(f"{source.name} was not prepared in {job.replay}, so there is nothing to replay.")
    return record


def _key(job: Job, source: Source, sha256: str, fingerprints: list[str], recorded: Record | None, reader: int) -> str:
    """Hash of everything that the outputs depend on."""
    mask = hashlib.sha256(read_bytes(job.root / source.mask)).hexdigest() if source.mask else ""
    replayed = None if recorded is None else [encode_history(output.history) for output in recorded.outputs]
    parts = [sha256, fingerprints, source.mask, mask, replayed, *filter(None, [reader, source.mask_as])]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _is_complete(out: Path, record: Record) -> bool:
    """Whether nothing is missing and nothing is to be tried again."""
    try:
        return not record.error and all(
            (out / output.name).stat().st_size == output.size and (not output.mask or (out / output.mask).is_file())
            for output in record.outputs
        )
    except OSError:
        return False


def _output_names(root: Path, name: str, parts: int) -> list[str]:
    names = [prepared_name(name, part, parts) for part in range(1, parts + 1)]
    for output in names if parts > 1 else ():
        for suffix in SUFFIXES:
            # Path.exists() raises where the name is too long.
            if os.path.exists((root / output).with_suffix(suffix)):  # noqa: PTH110
                raise XrayError(f"its part {output} would have the name of another original; rename one of them")
    return names


def _masks(job: Job, source: Source, image: Radiograph, pictures: Sequence[Prepared]) -> list[tuple[str, Radiograph]]:
    """Name and anomaly mask, 0 and 255, in the geometry of each prepared picture."""
    if not source.mask:
        return []
    names = _output_names(job.root, source.mask_as or source.mask, len(pictures))
    mask = read_anomaly_mask(job.root / source.mask)
    if mask.shape != image.shape:
        raise XrayError(f"its anomaly mask has {mask.shape} pixels and the radiograph {image.shape}; draw it anew")
    return [
        (name, to_prepared(mask, picture.matrix, _shape(picture.image)).astype(np.uint8) * np.uint8(255))
        for name, picture in zip(names, pictures, strict=True)
    ]


def _shape(image: Radiograph) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _write(
    job: Job, pictures: Sequence[Prepared], names: Sequence[str], masks: Sequence[tuple[str, Radiograph]]
) -> tuple[Output, ...]:
    """Write the prepared pictures and their masks."""
    # Where the manifest is gone, readers see that the run is not finished.
    (job.out / MANIFEST).unlink(missing_ok=True)
    outputs = []
    for picture, name, mask in zip_longest(pictures, names, masks):
        if mask:
            write_png(job.out / mask[0], mask[1])
        write_png(job.out / name, picture.image)
        size = (job.out / name).stat().st_size
        mask_name = mask[0] if mask else ""
        outputs.append(Output(name, mask_name, _shape(picture.image), size, picture.matrix, picture.history))
    return tuple(outputs)


def _fail(job: Job, source: Source, sha256: str, error: Exception, earlier: Record | None) -> Outcome:
    """Record why a radiograph could not be prepared; no picture of another content or pipeline stays in its place."""
    reason = str(error) if isinstance(error, XrayError) else f"{type(error).__name__}: {error}"
    record = Record(source.name, sha256, "", (0, 0), (), " ".join(reason.split()))
    if earlier != record:
        (job.out / MANIFEST).unlink(missing_ok=True)
        # An original that cannot be read may only be out of reach for a while: what was made of it is kept.
        _commit(job, record, earlier if sha256 else None)
    return Outcome("failed", rows_of(source, record))


def _commit(job: Job, record: Record, earlier: Record | None, *, keep_masks: bool = False) -> None:
    """Write the record, then remove files that an earlier run wrote and this one did not.

    Masks stay if their names have gone to other files.
    """
    write_record(job.out, record)
    if earlier is None:
        return
    written = {name for output in record.outputs for name in (output.name, output.mask)}
    for output in earlier.outputs:
        for name in {output.name, "" if keep_masks else output.mask} - written - {""}:
            if not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts:
                with suppress(OSError):
                    (job.out / name).unlink()
