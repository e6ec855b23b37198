"""Radiographs that a bundle is measured on, and the pictures that its graph is shown of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.edge.scope import tags_of
from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import images_of
from anomalib_xray.io.paths import Finder, absolute
from anomalib_xray.io.progress import track
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.io.read import decode_radiograph, read_bytes, read_radiograph, to_unit_interval
from anomalib_xray.io.tables import Row, identity, read_table
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation.pipeline import Pipeline

logger = logging.getLogger(__name__)

NORMAL, ABNORMAL, UNKNOWN = 0, 1, -1

_RUN_LEVELS = 4  # a checkpoint lies at RUN/weights/lightning/model.ckpt
_MAX_BYTES = 100_000_000


@dataclass(frozen=True)
class Sample:
    """A radiograph to measure on.

    Attributes:
        path: Its file.
        label: 0 normal, 1 abnormal, -1 unknown.
        source: The original that it was prepared from, if that is known.
        patient: Its patient; empty if unknown.
    """

    path: Path
    label: int
    source: Path | None = field(default=None, compare=False)
    patient: str = field(default="", compare=False)


def given_samples(path: Path) -> list[Sample]:
    """The images of a folder or a file, whose labels are unknown, or those that a table lists, each once.

    A CSV table has the column ``image_path``, absolute or from the table's folder, and ``label`` and ``patient``
    where known. Of a table with the column ``split`` the rows of ``val`` are taken.
    """
    if path.suffix.lower() == ".csv":
        rows = read_table(path, max_bytes=_MAX_BYTES)
        if any(row.cells.get("split") == "val" for row in rows):
            rows = [row for row in rows if row.cells.get("split") == "val"]
        return _samples(rows, "image_path", path)
    if not path.exists():
        raise XrayError(f"There is no {path}: name a folder of radiographs or a CSV table of them.")
    return [Sample(image, UNKNOWN) for image in images_of(path)]


def validation_table(checkpoint: Path) -> Path:
    """Validation scores of the run of a checkpoint, beside the checkpoint or in a folder above."""
    from anomalib_xray.evaluation.units import VALIDATION_SCORES

    for folder in checkpoint.absolute().parents[:_RUN_LEVELS]:
        if (folder / VALIDATION_SCORES).is_file():
            return folder / VALIDATION_SCORES
    raise XrayError(
        f"Beside {checkpoint} lies no {VALIDATION_SCORES} that says what it was validated on: name normal images "
        "with --images, a folder or a CSV table."
    )


def validation_samples(table: Path, *, originals: bool) -> list[Sample]:
    """The images that a run was validated on, from its validation scores.

    With ``originals`` they are those that the prepared pictures were made of; an original is abnormal if one of its
    pictures is.
    """
    from anomalib_xray.evaluation.units import read_scores

    scores = read_scores(table).astype(str).to_dict("records")
    rows = [Row(line, {str(name): cell for name, cell in cells.items()}) for line, cells in enumerate(scores, 2)]
    return _samples(rows, "source_path" if originals else "image_path", table)


def merged(*parts: Iterable[Sample]) -> list[Sample]:
    """Several lists as one, each file once: abnormal if it is so in one of them, else normal if it is so in one.

    >>> merged([Sample(Path("a.png"), UNKNOWN)], [Sample(Path("a.png"), ABNORMAL)])[0].label
    1
    """
    found: dict[Path, Sample] = {}
    for sample in (sample for part in parts for sample in part):
        known = found.get(sample.path, sample)
        label, patient = max(sample.label, known.label), known.patient or sample.patient
        found[sample.path] = replace(known, label=label, patient=patient)
    return list(found.values())


def has_both_labels(samples: Iterable[Sample]) -> bool:
    """Whether there are normal and abnormal images, so that they can be told apart."""
    return {NORMAL, ABNORMAL} <= {sample.label for sample in samples}


def _samples(rows: Sequence[Row], column: str, table: Path) -> list[Sample]:
    """The images of a table; rows without one are left out with a warning."""
    from anomalib_xray.data.table import label_index

    if not rows:
        raise XrayError(f"{table} lists no image: give a table with a row per image.")
    if column not in rows[0].cells:
        raise XrayError(f"{table} has no column {column!r}: write one, with the path of each image.")
    finder = Finder(absolute(table.parent))
    samples, missing = [], []
    for row in rows:
        path = finder.find(row.cells[column])
        label = label_index(row.cells.get("label", ""), f"line {row.line} of {table}")
        if os.path.isfile(path):  # noqa: PTH113  # Path.is_file() raises where the name is too long
            source = row.cells.get("source_path")
            patient = identity(row.cells.get("patient", ""))
            samples.append(Sample(path, label, finder.find(source) if source else None, patient))
        else:
            missing.append(f"{row.cells[column] or 'nothing'} in line {row.line}")
    said = f"{table} lists {len(missing)} files that do not exist, the first is {missing[0]}" if missing else ""
    if not samples:
        raise XrayError(f"{said}.")
    if missing:
        logger.warning("%s; they are left out.", said)
    return merged(samples)


@dataclass(frozen=True)
class PreparedSample(Sample):
    """A radiograph to measure on, with the pictures that the graph is shown.

    Attributes:
        views: Files of the pictures: its own, or those of its prepared views.
        shape: Height and width of the radiograph.
        tags: Tags of its file, as of :func:`anomalib_xray.edge.scope.tags_of`.
    """

    views: tuple[Path, ...] = ()
    shape: tuple[int, int] = (0, 0)
    tags: Mapping[str, str] = field(default_factory=dict)

    def read(self) -> Iterator[NDArray[np.float32]]:
        """Yields its pictures, each ``(H, W)`` in [0, 1]."""
        yield from map(read_view, self.views)


def read_view(path: Path) -> NDArray[np.float32]:
    """Reads a picture as the graph sees it, ``(H, W)`` in [0, 1]."""
    return to_unit_interval(read_radiograph(path))


def prepare_samples(samples: Sequence[Sample], pipeline: Pipeline | None, folder: Path) -> list[PreparedSample]:
    """Prepares every radiograph once and keeps its views as files, so that memory does not grow with their number.

    One that cannot be used is left out with a warning; at least one must be usable.
    """
    found, reasons = [], []
    for number, sample in enumerate(track(samples, "Preparing")):
        try:
            shape, tags, pictures = _prepared(sample, pipeline)
        except XrayError as error:
            text = str(error)
            reasons.append(text if str(sample.path) in text else f"{sample.path}: {text}")
            logger.warning("left out: %s", reasons[-1])
            continue
        # Outside: that a view cannot be written is not the fault of its radiograph.
        views = [sample.path] if pipeline is None else write_pictures(pictures, folder / str(number))
        found.append(
            PreparedSample(
                sample.path, sample.label, patient=sample.patient, views=tuple(views), shape=shape, tags=tags
            )
        )
    if samples and not found:
        raise XrayError(f"No radiograph can be used; the first: {reasons[0]}")
    if reasons:
        logger.warning("%d of %d radiographs are left out.", len(reasons), len(samples))
    return found


def _prepared(sample: Sample, pipeline: Pipeline | None) -> tuple[tuple[int, int], dict[str, str], list[Radiograph]]:
    """Shape of a radiograph, the tags of its file, and the pictures that the preparation makes of it."""
    content = read_bytes(sample.path)
    image = decode_radiograph(content, name=str(sample.path))
    tags = tags_of(content, sample.path)
    if not tags and sample.source is not None and sample.source.is_file():
        tags = tags_of(read_bytes(sample.source), sample.source)
    pictures = [] if pipeline is None else [prepared.image for prepared in pipeline.prepare(image)]
    return (image.shape[0], image.shape[1]), tags, pictures


def write_pictures(pictures: Sequence[Radiograph], folder: Path) -> list[Path]:
    """Writes pictures as PNG files under their numbers; returns the files."""
    paths = [folder / f"{number}.png" for number in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        write_png(path, picture)
    return paths
