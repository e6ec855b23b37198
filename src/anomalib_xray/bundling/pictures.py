"""What the graph is shown of each radiograph: the file itself, or the views that the preparation makes of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.bundling.images import Sample
from anomalib_xray.edge.scope import tags_of
from anomalib_xray.errors import XrayError
from anomalib_xray.io.progress import track
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.io.read import decode_radiograph, read_bytes, read_radiograph, to_unit_interval
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation.pipeline import Pipeline

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pictures:
    """A radiograph as the graph sees it.

    Attributes:
        path: The radiograph's file.
        label: 0 normal, 1 abnormal, -1 unknown.
        views: Files of the pictures: its own, or those of its prepared views.
        shape: Height and width of the radiograph.
        tags: What its file says of it, as of :func:`anomalib_xray.edge.scope.tags_of`.
    """

    path: Path
    label: int
    views: tuple[Path, ...]
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

    Args:
        samples: The radiographs.
        pipeline: The preparation; ``None`` shows the files as they are.
        folder: Where to write the views.

    Returns:
        What the graph is shown of each. One that cannot be used is left out, and a warning says why.

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
        pictures.append(Pictures(sample.path, sample.label, views, shape, tags))
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
