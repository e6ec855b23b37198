"""Labelled pictures for the network that finds hands: boxes as Pascal VOC, COCO or labelImg's table, and batches."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import list_radiographs
from anomalib_xray.io.paths import Finder, absolute
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.tables import identity, read_table
from anomalib_xray.io.text import read_json, read_text
from anomalib_xray.preparation.view import small_view

logger = logging.getLogger(__name__)

SIDE = 320
"""Height and width of the network's input in pixels."""

MAX_BYTES = 50_000_000
"""Boxes of about 200,000 pictures."""

_LEAST_SIDE = 4.0  # pixels; what is left of a box that was moved out of the picture and has less is no hand to learn


@dataclass(frozen=True)
class LabelledBox:
    """A box with the name of its class, such as ``rh``: x0, y0, x1, y1 in pixels, the second corner outside."""

    label: str
    corners: tuple[float, float, float, float]


LabelledPictures: TypeAlias = Mapping[str, tuple[LabelledBox, ...]]
"""The boxes of each picture, by its file name or path as the annotations give it; none for a picture without hands."""


def read_boxes(path: Path) -> LabelledPictures:
    """Read the boxes of each picture.

    Args:
        path: A folder with a Pascal VOC file (.xml) for each picture, as labelImg writes them; a COCO file (.json); or
            a table (.csv) with the columns filename, width, height, class, xmin, ymin, xmax and ymax.

    Raises:
        XrayError: A file is missing, too large, of another format, or has a box without area.
    """
    readers = {".json": _read_coco, ".csv": _read_table}
    if path.is_dir():
        files = sorted(file for file in path.glob("*.xml") if not file.name.startswith("."))  # of macOS, and no XML
        if not files:
            raise XrayError(f"The folder {path} holds no .xml file: give the folder in which labelImg saved the boxes.")
        found = [entry for file in files for entry in _read(file, _read_voc)]
    elif path.suffix.lower() in readers:
        found = _read(path, readers[path.suffix.lower()])
    else:
        raise XrayError(f"{path} holds no boxes: give a folder of Pascal VOC files, a COCO .json or a labelImg .csv.")
    boxes: dict[str, list[LabelledBox]] = {}
    for picture, box in found:
        boxes.setdefault(picture, []).extend([] if box is None else [box])
    return {picture: tuple(listed) for picture, listed in boxes.items()}


_Entry: TypeAlias = tuple[str, LabelledBox | None]
"""A picture's name and a box on it; None says that the picture was looked at."""


def _read(path: Path, reader: Callable[[Path], Iterator[_Entry]]) -> list[_Entry]:
    try:
        return list(reader(path))
    except (ValueError, KeyError, TypeError, AttributeError, ET.ParseError) as error:
        raise XrayError(f"{path} does not hold boxes as its ending promises: {error}.") from error


def _read_voc(path: Path) -> Iterator[_Entry]:
    """Pascal VOC: one picture per file."""
    text = read_text(path, max_bytes=MAX_BYTES)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise XrayError(f"{path} declares a document type or entities, which files of boxes never need: remove them.")
    root = ET.fromstring(text)
    if root.tag != "annotation":
        raise XrayError(f"{path} is no Pascal VOC file: its outermost element is {root.tag}, not annotation.")
    picture = root.findtext("filename") or path.stem
    yield picture, None
    for entry in root.iter("object"):
        sides = [entry.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        yield picture, _box(entry.findtext("name"), sides, path, picture)


def _read_coco(path: Path) -> Iterator[_Entry]:
    """COCO: all pictures in one file."""
    content = read_json(path, max_bytes=MAX_BYTES)
    pictures = {entry["id"]: str(entry["file_name"]) for entry in content["images"]}
    labels = {entry["id"]: entry["name"] for entry in content["categories"]}
    for picture in pictures.values():
        yield picture, None
    for entry in content["annotations"]:
        x, y, width, height = map(float, entry["bbox"])
        picture = pictures[entry["image_id"]]
        yield picture, _box(labels[entry["category_id"]], [x, y, x + width, y + height], path, picture)


def _read_table(path: Path) -> Iterator[_Entry]:
    """The table that labelImg's files are commonly turned into: one box per row."""
    for row in read_table(path, max_bytes=MAX_BYTES):
        picture, where = row.cells["filename"], f"line {row.line} of {path}"
        sides = [row.cells[side] for side in ("xmin", "ymin", "xmax", "ymax")]
        if not picture or not all(sides):
            raise XrayError(f"{where} does not hold boxes: a cell of the picture or its box is empty; fill it in.")
        yield picture, _box(row.cells["class"], sides, where, picture)


def _box(label: Any, sides: list[Any], path: Path | str, picture: str) -> LabelledBox:
    x0, y0, x1, y1 = (float(side) for side in sides)
    if not label or not all(map(math.isfinite, (x0, y0, x1, y1))) or x1 <= x0 or y1 <= y0:
        raise XrayError(f"{path} has a box of {picture} without class or area: {label} {x0:g} {y0:g} {x1:g} {y1:g}.")
    return LabelledBox(str(label), (x0, y0, x1, y1))


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
    """Read the labelled pictures, sorted by name; one that cannot be read is left out, and a warning says why.

    Args:
        images: Folder of the pictures; those in folders below it are found too.
        pictures: Boxes by path below ``images``, or by file name alone if it occurs once.
        classes: All classes.

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
    """Draw pictures at random, and vary their brightness, place and size.

    Nothing is mirrored, because a mirrored right hand is a left one.

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
