"""Labelled pictures for the network that finds hands."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.listing import list_radiographs
from anomalib_xray.io.paths import Finder, absolute
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.tables import identity
from anomalib_xray.preparation.localization.boxes import LabelledPictures
from anomalib_xray.preparation.view import small_view
from anomalib_xray.preparation_models.localizer import SIDE

_LEAST_SIDE = 4.0  # pixels; what is left of a box that was moved out of the picture and has less is no hand to learn


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Example:
    """A picture as the network sees it, with its boxes.

    Attributes:
        view: The picture before it is stretched, (h, w), no side longer than 512.
        image: Stretched to the network's input, (320, 320).
        boxes: x0, y0, x1, y1 in pixels of the input, (K, 4).
        labels: Positions of the boxes' classes in the list of all classes, (K,).
    """

    view: NDArray[np.uint8]
    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


def load_examples(images: Path, pictures: LabelledPictures, classes: Sequence[str]) -> list[Example]:
    """Reads the labelled pictures.

    Args:
        images: Folder of the pictures; those in folders below it are found too.
        pictures: Boxes by path below ``images``, or by file name alone where it occurs once.
        classes: All classes.

    Returns:
        An example for each labelled picture, sorted by name. One that cannot be read is left out, and a warning says
        why.

    Raises:
        XrayError: A labelled picture is missing, or its name occurs twice; or none can be read.
    """
    paths = _found(images, pictures)
    examples = []
    for name in sorted(pictures):
        try:
            examples.append(_example(paths[name], pictures, name, classes))
        except XrayError as error:
            logger.warning("left out: %s", error)
    if pictures and not examples:
        raise XrayError(f"None of the {len(pictures)} labelled pictures in {images} can be read; replace them.")
    return examples


def _found(images: Path, pictures: LabelledPictures) -> dict[str, Path]:
    """The file of each labelled picture."""
    by_name: dict[str, list[Path]] = {}
    for file in list_radiographs(images):
        by_name.setdefault(identity(file.name), []).append(file)
    finder = Finder(absolute(images))
    paths = {}
    for name in pictures:
        file = finder.find(name)
        last = identity(name.replace("\\", "/").rpartition("/")[2])
        candidates = [file] if file.is_file() else by_name.get(last, [])
        if len(candidates) != 1:
            how = "is missing" if not candidates else "occurs more than once"
            raise XrayError(f"The labelled picture {name} {how} in {images}: give its path below that folder.")
        paths[name] = candidates[0]
    return paths


def _example(path: Path, pictures: LabelledPictures, name: str, classes: Sequence[str]) -> Example:
    radiograph = read_radiograph(path)
    view = small_view(radiograph)
    height, width = radiograph.shape
    corners = np.array([box.corners for box in pictures[name]], np.float32).reshape(-1, 4)
    return Example(
        view=view,
        image=np.asarray(cv2.resize(view, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), np.uint8),
        boxes=corners * np.array([SIDE / width, SIDE / height] * 2, np.float32),
        labels=np.array([classes.index(box.label) for box in pictures[name]], np.int64),
    )


def draw_batch(
    examples: Sequence[Example], rng: np.random.Generator, size: int
) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    """Draws pictures at random, and varies their brightness, place and size.

    Nothing is mirrored, because a mirrored right hand is a left one.

    Args:
        examples: To draw from.
        rng: Source of randomness.
        size: Number of pictures.

    Returns:
        Images (3, 320, 320) in [0, 1], and their ``boxes`` (K, 4) and ``labels`` (K,), which count from 1, as
        torchvision's detectors take them.
    """
    images, targets = [], []
    for index in rng.integers(len(examples), size=size):
        image, boxes, labels = _varied(examples[index], rng)
        images.append(torch.from_numpy(image).expand(3, -1, -1))
        targets.append({"boxes": torch.from_numpy(boxes), "labels": torch.from_numpy(labels + 1)})
    return images, targets


def _varied(
    example: Example, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    scale = rng.uniform(0.7, 1.1, 2)
    shift = rng.uniform(-0.05, 1.05, 2) * (1 - scale) * SIDE
    matrix = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
    image = cv2.warpAffine(example.image, matrix, (SIDE, SIDE)).astype(np.float32) / 255
    boxes = np.clip(example.boxes * np.tile(scale, 2) + np.tile(shift, 2), 0, SIDE).astype(np.float32)
    visible = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=SIDE) >= _LEAST_SIDE
    return np.clip(image * np.float32(rng.uniform(0.6, 1.4)), 0, 1), boxes[visible], example.labels[visible]
