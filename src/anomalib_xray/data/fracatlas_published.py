"""The published files of FracAtlas as one table: annotations, masks, groups, and reasons to leave a picture out."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array  # type: ignore[import-untyped]  # scipy has no stubs
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]  # as above

from anomalib_xray.data.stock_command import advice_without_data
from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import MASKS, list_radiographs
from anomalib_xray.io.progress import track
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.tables import check_columns, read_table
from anomalib_xray.io.text import read_json, read_text, write_csv
from anomalib_xray.io.write import write_png

logger = logging.getLogger(__name__)

BODY_PARTS = ("hand", "hip", "leg", "shoulder")
"""Parts as FracAtlas calls them; an arm from the elbow down is a hand."""

VIEWS = ("frontal", "lateral", "oblique")

TABLE = "table.csv"
"""Table that the module makes of the published files, and reads."""

_COLUMNS = (
    "image_path", "label", "group", "mask_path", "boxes", "body_part", "view", "hardware", "multiscan", "left_out",
)  # fmt: skip
_PUBLISHED = "dataset.csv"
_COCO = "Annotations/COCO JSON/COCO_fracture_masks.json"
_VOC = "Annotations/PASCAL VOC"
_FLAGS = ("fractured", "hardware", "multiscan", *BODY_PARTS, *VIEWS)
_ADVICE = "take the file as FracAtlas publishes it"

NEIGHBOURS = 8
"""File numbers per block. Pictures of one visit follow each other, about two per patient, so that most patients are
inside of one block."""

ALIKE = 0.985
"""Correlation of two thumbnails from which on they count as one picture. On pictures of arms that were searched for
copies before, no pair reaches .98."""

_THUMBNAIL = 32  # pixels; at 16 different pictures of one patient reach ALIKE

OTHER_LABEL = "the other label"
"""What a copy has that makes the label of a picture doubtful."""


def index_published(root: Path) -> None:
    """Makes ``table.csv`` and the masks, in ``ground_truth``, of FracAtlas as it is published.

    Raises:
        XrayError: Files are missing, or are not those of FracAtlas.
    """
    published = root / _PUBLISHED
    if not published.is_file() or not (root / "images").is_dir() or not (root / _COCO).is_file():
        raise XrayError(
            f"FracAtlas is not at {root}: it needs {TABLE}, or {_PUBLISHED}, images and {_COCO};"
            f" {advice_without_data('fracatlas')}"
        )
    listed = read_table(published)
    check_columns(listed, published, ["image_id", *_FLAGS], _ADVICE)
    files = {path.name: path.relative_to(root).as_posix() for path in list_radiographs(root / "images")}
    if unlisted := sorted({*files} - {row.cells["image_id"] for row in listed}):
        logger.warning("%s does not list %d files in images (first %s).", published, len(unlisted), unlisted[0])
    outlines = _outlines(root / _COCO)
    rows, thumbnails = [], np.zeros((len(listed), _THUMBNAIL**2), np.float32)
    for index, row in enumerate(track(listed, "listing FracAtlas")):
        name = row.cells["image_id"]
        if not re.search(r"\d+", name):
            raise XrayError(f"line {row.line} of {published} names the picture {name!r}, without a number; {_ADVICE}.")
        if row.cells["fractured"] not in ("0", "1"):
            said = row.cells["fractured"]
            raise XrayError(f"line {row.line} of {published} has {said!r} in fractured, not 0 or 1; {_ADVICE}.")
        cells = _row(row.cells, files.get(name, f"images/{name}"))
        found = outlines.get(name, [])
        boxes = [outline.box for outline in found] or _voc_boxes(root / _VOC / f"{Path(name).stem}.xml")
        cells["boxes"] = json.dumps(boxes)
        try:
            picture = read_radiograph(root / cells["image_path"])
        except XrayError as error:
            cells["left_out"] = str(error).replace(f"{root}/", "")
        else:
            thumbnails[index] = _thumbnail(picture)
            outlined = any(outline.polygons for outline in found)
            cells["left_out"] = _contradiction(cells["label"], has_outlines=outlined, has_boxes=bool(boxes))
            if outlined and not cells["left_out"]:
                cells["mask_path"] = f"{MASKS}/{Path(name).stem}.png"
                write_png(root / cells["mask_path"], _mask(found, picture.shape))
        rows.append(cells)
    pairs = alike(thumbnails)
    _leave_out_copies(rows, pairs)
    for cells, group in zip(rows, _groups([cells["image_path"] for cells in rows], pairs), strict=True):
        cells["group"] = group
    write_csv(root / TABLE, _COLUMNS, rows)
    logger.info("Wrote %s.", root / TABLE)


def alike(thumbnails: NDArray[np.float32]) -> NDArray[np.intp]:
    """Pairs of pictures that are nearly the same, at any brightness and contrast.

    Args:
        thumbnails: A flattened thumbnail per row, (N, P); one of a single level, as for a file that cannot be read, is
            like no other.

    Returns:
        Their indices (M, 2), the smaller one first, sorted.

    Example:
        >>> alike(np.array([[1, 2, 4], [3, 1, 0], [2, 4, 8], [0, 0, 0]], np.float32))
        array([[0, 2]])
    """
    centred = thumbnails - thumbnails.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = centred / np.where(norm > 0, norm, 1)
    return np.argwhere(np.triu(unit @ unit.T, 1) > ALIKE)


class _Outline(NamedTuple):
    """An outlined fracture: polygons of x, y in a picture of ``height`` and ``width``, and their box."""

    polygons: list[NDArray[np.float64]]
    box: list[float]
    height: int
    width: int


def _row(published: Mapping[str, str], path: str) -> dict[str, str]:
    """A row of our table, but for what annotations and other pictures say."""
    return {
        "image_path": path,
        "label": "abnormal" if published["fractured"] == "1" else "normal",
        "mask_path": "",
        "body_part": "+".join(part for part in BODY_PARTS if published[part] == "1"),
        "view": "+".join(view for view in VIEWS if published[view] == "1"),
        "hardware": published["hardware"],
        "multiscan": published["multiscan"],
        "left_out": "",
    }


def _outlines(path: Path) -> dict[str, list[_Outline]]:
    """The outlined fractures by file name."""
    try:
        content = read_json(path)
        pictures = {picture["id"]: picture for picture in content["images"]}
        found: dict[str, list[_Outline]] = {}
        for annotation in content["annotations"]:
            picture = pictures[annotation["image_id"]]
            drawn = [np.array(polygon, float).reshape(-1, 2) for polygon in annotation["segmentation"]]
            polygons = [polygon for polygon in drawn if len(polygon) > 2 and np.isfinite(polygon).all()]
            left, top, width, height = annotation["bbox"]
            box = [round(float(value), 1) for value in (left, top, left + width, top + height)]
            outline = _Outline(polygons, box, int(picture["height"]), int(picture["width"]))
            if min(outline.height, outline.width) < 1:
                raise ValueError(f"{picture['file_name']} has no size")
            found.setdefault(picture["file_name"], []).append(outline)
    except (KeyError, TypeError, ValueError) as error:
        raise XrayError(f"{path} is no COCO file of outlines ({type(error).__name__}: {error}); {_ADVICE}.") from error
    return found


def _voc_boxes(path: Path) -> list[list[float]]:
    """Boxes of a PASCAL VOC file, for pictures without outlines; none without a file."""
    if not path.is_file():
        return []
    sides = [re.findall(rf"<{side}>\s*([\d.]+)", read_text(path)) for side in ("xmin", "ymin", "xmax", "ymax")]
    try:
        return [[float(side) for side in box] for box in zip(*sides, strict=True)]
    except ValueError as error:
        raise XrayError(f"{path} is no PASCAL VOC file of boxes ({error}); {_ADVICE}.") from error


def _mask(outlines: Iterable[_Outline], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The outlined areas, 255 on 0, in a picture of the shape (H, W)."""
    mask = np.zeros(shape[:2], np.uint8)
    for outline in outlines:
        scale = np.array([shape[1] / outline.width, shape[0] / outline.height])
        for polygon in outline.polygons:
            cv2.fillPoly(mask, [np.rint(polygon * scale).astype(np.int32)], 255)
    return mask


def _thumbnail(picture: NDArray[Any]) -> NDArray[np.float32]:
    small = cv2.resize(picture, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32).ravel()


def _contradiction(label: str, *, has_outlines: bool, has_boxes: bool) -> str:
    """Reason to leave a picture out whose label and annotations contradict each other; empty without one."""
    if label == "normal" and has_boxes:
        return "called normal although a fracture is marked"
    return "called fractured although no fracture is outlined" if label == "abnormal" and not has_outlines else ""


def _leave_out_copies(rows: list[dict[str, str]], pairs: NDArray[np.intp]) -> None:
    """Leaves out all pictures that have a copy with another label, and all but the first of other copies."""
    names = [Path(cells["image_path"]).name for cells in rows]
    usable = [(first, second) for first, second in pairs if not rows[first]["left_out"] + rows[second]["left_out"]]
    for first, second in usable:
        if rows[first]["label"] != rows[second]["label"]:
            rows[first]["left_out"] = f"nearly the same as {names[second]}, which has {OTHER_LABEL}"
            rows[second]["left_out"] = f"nearly the same as {names[first]}, which has {OTHER_LABEL}"
    for first, second in usable:  # sorted, so that it is known by now whether the first one is left out
        if not rows[first]["left_out"] + rows[second]["left_out"]:
            rows[second]["left_out"] = f"nearly the same as {names[first]}"


def _groups(names: Sequence[str], pairs: NDArray[np.intp]) -> list[str]:
    """Groups of pictures: blocks of neighbouring numbers, joined where pictures in them are nearly the same."""
    numbers = [int(re.findall(r"\d+", Path(name).name)[0]) for name in names]
    blocks, block = np.unique(np.array(numbers) // NEIGHBOURS, return_inverse=True)
    joined = coo_array((np.ones(len(pairs)), (block[pairs[:, 0]], block[pairs[:, 1]])), shape=(len(blocks),) * 2)
    _, group = connected_components(joined, directed=False)
    return [f"g{number:04}" for number in group[block]]
