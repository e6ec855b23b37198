"""Boxes that people drew around hands and markers: Pascal VOC, COCO, or the table that labelImg's files become."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree as ET

from anomalib_xray.errors import XrayError
from anomalib_xray.io.tables import read_table
from anomalib_xray.io.text import read_json, read_text

MAX_BYTES = 50_000_000
"""Boxes of about 200,000 pictures."""


@dataclass(frozen=True)
class LabelledBox:
    """A box with its class.

    Attributes:
        label: Name of the class, such as ``rh``.
        corners: x0, y0, x1, y1 in pixels, the second corner outside.
    """

    label: str
    corners: tuple[float, float, float, float]


LabelledPictures: TypeAlias = Mapping[str, tuple[LabelledBox, ...]]
"""The boxes of each picture, by its file name or path as the annotations give it; none for a picture without hands."""


def read_boxes(path: Path) -> LabelledPictures:
    """Reads boxes.

    Args:
        path: A folder with a Pascal VOC file (.xml) for each picture, as labelImg writes them; a COCO file (.json); or
            a table (.csv) with the columns filename, width, height, class, xmin, ymin, xmax and ymax.

    Returns:
        The boxes of each picture.

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
    """What a reader finds in a file."""
    try:
        return list(reader(path))
    except (ValueError, KeyError, TypeError, AttributeError, ET.ParseError) as error:
        raise XrayError(f"{path} does not hold boxes as its ending promises: {error}.") from error


def _read_voc(path: Path) -> Iterator[_Entry]:
    """Pascal VOC: one picture a file."""
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
    """The table that labelImg's files are commonly turned into: one box a row."""
    for row in read_table(path, max_bytes=MAX_BYTES):
        picture, where = row.cells["filename"], f"line {row.line} of {path}"
        sides = [row.cells[side] for side in ("xmin", "ymin", "xmax", "ymax")]
        if not picture or not all(sides):
            raise XrayError(f"{where} does not hold boxes: a cell of the picture or its box is empty; fill it in.")
        yield picture, _box(row.cells["class"], sides, where, picture)


def _box(label: Any, sides: list[Any], path: Path | str, picture: str) -> LabelledBox:  # noqa: ANN401  # as the file has it
    x0, y0, x1, y1 = (float(side) for side in sides)
    if not label or not all(map(math.isfinite, (x0, y0, x1, y1))) or x1 <= x0 or y1 <= y0:
        raise XrayError(f"{path} has a box of {picture} without class or area: {label} {x0:g} {y0:g} {x1:g} {y1:g}.")
    return LabelledBox(str(label), (x0, y0, x1, y1))
