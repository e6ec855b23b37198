"""Images that a bundle is measured on, and the pictures that its graph is shown of them."""

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
from anomalib_xray.io.tables import Row, read_table
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation.pipeline import Pipeline

logger = logging.getLogger(__name__)

VALIDATION_TABLE = "val_scores.csv"
"""Table that a validation leaves in the folder of its run."""

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
    """

    path: Path
    label: int
    source: Path | None = field(default=None, compare=False)


def given_samples(path: Path) -> list[Sample]:
    """The images of a folder or a file, whose labels are unknown, or those that a table lists.

    Args:
        path: Folder, which is searched with all folders below it; image file; or CSV table with the column
            ``image_path``, absolute or from the table's folder, and ``label`` where known. Of a table with the column
            ``split`` the rows of ``val`` are taken.

    Returns:
        The images, each once.

    Raises:
        XrayError: There is no image, or the table is none.
    """
    if path.suffix.lower() == ".csv":
        rows = _read_table(path)
        if any(row.cells.get("split") == "val" for row in rows):
            rows = [row for row in rows if row.cells.get("split") == "val"]
        return _samples(rows, "image_path", path)
    if not path.exists():
        raise XrayError(f"There is no {path}: name a folder of radiographs or a CSV table of them.")
    return [Sample(image, UNKNOWN) for image in images_of(path)]


def validation_table(checkpoint: Path) -> Path:
    """The table of what the run of a checkpoint, in its folder or below it, was validated on."""
    folders = checkpoint.absolute().parents[:_RUN_LEVELS]
    table = next((folder / VALIDATION_TABLE for folder in folders if (folder / VALIDATION_TABLE).is_file()), None)
    if table is None:
        raise XrayError(
            f"Beside {checkpoint} lies no {VALIDATION_TABLE} that says what it was validated on: name normal images "
            "with --images, a folder or a CSV table."
        )
    return table


def validation_samples(table: Path, *, originals: bool) -> list[Sample]:
    """The images that a run was validated on; their patients are others than those of the training.

    Args:
        table: As of :func:`validation_table`.
        originals: Whether to take the originals instead of the prepared pictures that were made of them; an original is
            abnormal if one of its pictures is.
    """
    return _samples(_read_table(table), "source_path" if originals else "image_path", table)


def merged(*parts: Iterable[Sample]) -> list[Sample]:
    """Several lists as one in which every file stands once, abnormal if it is so in one of them, else normal if so."""
    found: dict[Path, Sample] = {}
    for sample in (sample for part in parts for sample in part):
        known = found.get(sample.path, sample)
        found[sample.path] = replace(known, label=max(sample.label, known.label))
    return list(found.values())


def has_both_labels(samples: Iterable[Sample]) -> bool:
    """Whether there are normal and abnormal images, so that they can be told apart."""
    return {NORMAL, ABNORMAL} <= {sample.label for sample in samples}


def _read_table(path: Path) -> list[Row]:
    """The rows of a CSV file."""
    rows = read_table(path, max_bytes=_MAX_BYTES)
    if not rows:
        raise XrayError(f"{path} lists no image: give a table with a row an image.")
    return rows


def _samples(rows: Sequence[Row], column: str, table: Path) -> list[Sample]:
    """The images of a table; rows without one are left out, which a warning says."""
    from anomalib_xray.data.table import label_index

    if column not in rows[0].cells:
        raise XrayError(f"{table} has no column {column!r}: write one, with the path of each image.")
    finder = Finder(absolute(table.parent))
    samples, missing = [], []
    for row in rows:
        path = finder.find(row.cells[column])
        label = label_index(row.cells.get("label", ""), f"line {row.line} of {table}")
        if os.path.isfile(path):  # noqa: PTH113  # Path.is_file() raises where the name is too long
            source = row.cells.get("source_path")
            samples.append(Sample(path, label, finder.find(source) if source else None))
        else:
            missing.append(f"{row.cells[column] or 'nothing'} in line {row.line}")
    said = f"{table} lists {len(missing)} files that do not exist, the first is {missing[0]}" if missing else ""
    if not samples:
        raise XrayError(f"{said}.")
    if missing:
        logger.warning("%s; they are left out.", said)
    return merged(samples)


@dataclass(frozen=True)
class Pictures(Sample):
    """A radiograph as the graph sees it.

    Attributes:
        views: Files of the pictures: its own, or those of its prepared views.
        shape: Height and width of the radiograph.
        tags: What its file says of it, as of :func:`anomalib_xray.edge.scope.tags_of`.
    """

    views: tuple[Path, ...] = ()
    shape: tuple[int, int] = (0, 0)
    tags: Mapping[str, str] = field(default_factory=dict)

    def read(self) -> Iterator[NDArray[np.float32]]:
        """Reads its pictures one after the other, each ``(H, W)`` in [0, 1]."""
        yield from map(read_view, self.views)


def read_view(path: Path) -> NDArray[np.float32]:
    """Reads a picture as the graph sees it, ``(H, W)`` in [0, 1]."""
    return to_unit_interval(read_radiograph(path))


def prepare_pictures(samples: Sequence[Sample], pipeline: Pipeline | None, folder: Path) -> list[Pictures]:
    """Prepares every radiograph once and keeps its views as files, so that any number of them needs no memory.

    One that cannot be used is left out, and a warning says why.

    Raises:
        XrayError: None of the radiographs can be used.
    """
    pictures, reasons = [], []
    for number, sample in enumerate(track(samples, "Preparing")):
        try:
            shape, tags, prepared = _prepared(sample, pipeline)
        except XrayError as error:
            text = str(error)
            reasons.append(text if str(sample.path) in text else f"{sample.path}: {text}")
            logger.warning("left out: %s", reasons[-1])
            continue
        # Outside: that a view cannot be written is not the fault of its radiograph.
        views = (sample.path,) if pipeline is None else _written(prepared, folder / str(number))
        pictures.append(Pictures(sample.path, sample.label, views=views, shape=shape, tags=tags))
    if samples and not pictures:
        raise XrayError(f"No radiograph can be used; the first: {reasons[0]}")
    if reasons:
        logger.warning("%d of %d radiographs are left out.", len(reasons), len(samples))
    return pictures


def _prepared(sample: Sample, pipeline: Pipeline | None) -> tuple[tuple[int, int], dict[str, str], list[Radiograph]]:
    """Height and width of a radiograph, what its file says of it, and the pictures that are made of it."""
    content = read_bytes(sample.path)
    image = decode_radiograph(content, name=str(sample.path))
    tags = tags_of(content, sample.path)
    if not tags and sample.source is not None and sample.source.is_file():
        tags = tags_of(read_bytes(sample.source), sample.source)
    pictures = [] if pipeline is None else [prepared.image for prepared in pipeline.prepare(image)]
    return (image.shape[0], image.shape[1]), tags, pictures


def _written(pictures: Sequence[Radiograph], folder: Path) -> tuple[Path, ...]:
    views = tuple(folder / f"{number}.png" for number in range(len(pictures)))
    for view, picture in zip(views, pictures, strict=True):
        write_png(view, picture)
    return views
