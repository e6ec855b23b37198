"""What the graph is shown of each radiograph: the file itself, or the views that the preparation makes of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.bundling.images import Sample
from anomalib_xray.errors import XrayError
from anomalib_xray.io.progress import track
from anomalib_xray.io.read import read_radiograph, to_unit_interval
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
    """

    path: Path
    label: int
    views: tuple[Path, ...]

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
            views = _views(sample.path, pipeline, folder / str(number))
        except XrayError as error:
            text = str(error)
            reasons.append(text if str(sample.path) in text else f"{sample.path}: {text}")
            logger.warning("left out: %s", reasons[-1])
        else:
            pictures.append(Pictures(sample.path, sample.label, views))
    if samples and not pictures:
        raise XrayError(f"No radiograph can be used; the first: {reasons[0]}")
    if reasons:
        logger.warning("%d of %d radiographs are left out.", len(reasons), len(samples))
    return pictures


def _views(path: Path, pipeline: Pipeline | None, folder: Path) -> tuple[Path, ...]:
    radiograph = read_radiograph(path)
    if pipeline is None:
        return (path,)
    prepared = pipeline.prepare(radiograph)
    views = tuple(folder / f"{number}.png" for number in range(len(prepared)))
    for view, picture in zip(views, prepared, strict=True):
        write_png(view, picture.image)
    return views
