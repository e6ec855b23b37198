"""FracAtlas, limbs of three hospitals in Bangladesh with outlined fractures: its folder, annotations and groups."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array  # type: ignore[import-untyped]  # scipy has no stubs
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]  # as above

from anomalib_xray.data.datamodule import RadiographDataModule
from anomalib_xray.data.stock_command import advice_without_data
from anomalib_xray.data.table import label_index, samples_table, split_by_recipe
from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import MASKS, list_radiographs
from anomalib_xray.io.progress import track
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.tables import Row, check_columns, read_table
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

_TURNED = "the other label"


class FracAtlas(RadiographDataModule):
    """FracAtlas (Abedeen et al. 2023): 4,083 radiographs of limbs, 717 with a fracture, CC BY 4.0.

    Patients were not published. A **group** stands in for a patient: a block of 8 neighbouring file numbers, joined
    with others that hold nearly the same picture. The split, with the recipe of arXiv 2001.10883, and all intervals
    are by group; a patient whose pictures lie apart may still be in two splits.

    At first use the published files become ``table.csv`` and ``ground_truth`` in the same folder: a row per picture,
    with the reason why one is left out. These are truncated files; copies of another picture; pictures of which a copy
    has the other label; those called normal although a fracture is outlined (IMG0003298), or fractured although none
    is. A folder that holds such a table is read without the published files. Remove the table to make it anew.

    Args:
        root: The unpacked folder, with ``dataset.csv``, ``images`` and ``Annotations``; or one with a ``table.csv``.
        body_parts: One or several of hand (an arm from the elbow down), hip, leg, shoulder; or ``all``. A picture of
            several parts is taken if all of them are.
        views: One or several of frontal, lateral, oblique; all by default. A picture of several views is taken if all
            of them are.
        hardware: Take pictures with implants, which are fractured far more often than others.
        multiscan: Take pictures with several exposures on one plate, which are fractured more often than others.
        settings: Further settings of :class:`~anomalib_xray.data.datamodule.RadiographDataModule`.

    Raises:
        XrayError: A body part or view is unknown; or, at setup, the data set is missing or unusable.

    Example:
        >>> FracAtlas(body_parts=["leg", "hand"], views="frontal").body_parts
        ['hand', 'leg']
    """

    unit: ClassVar[str] = "groups"

    def __init__(
        self,
        root: str | Path = "datasets/FracAtlas",
        body_parts: str | list[str] = "hand",
        views: str | list[str] = "all",
        hardware: bool = False,
        multiscan: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(root=root, **settings)
        self.body_parts = _chosen(body_parts, BODY_PARTS, "body part")
        self.views = _chosen(views, VIEWS, "view")
        self.hardware = hardware
        self.multiscan = multiscan

    def prepare_data(self) -> None:
        """Makes the table and the masks of the published files, where there is no table yet.

        Raises:
            XrayError: The data set is missing, or its files contradict each other.
        """
        if not (self.root / TABLE).is_file():
            index_published(self.root)

    def build_samples(self) -> pd.DataFrame:
        """Lists the chosen pictures and splits their groups."""
        return split_by_recipe(samples_table(self.list_images()), self.split_seed)

    def list_images(self) -> pd.DataFrame:
        """Lists the chosen pictures with what the data set says of them.

        Returns:
            Columns ``image_path`` (absolute), ``patient`` (the group), ``study``, ``label_index``, ``mask_path``
            (absolute, or empty), ``boxes`` (JSON: fractures as x0, y0, x1, y1 in pixels of the original), ``view``
            (several joined by ``+``).

        Raises:
            XrayError: The data set is missing or unusable, or no picture is chosen.
        """
        self.prepare_data()
        path = self.root / TABLE
        listed = read_table(path)
        check_columns(listed, path, ["image_path", "group"], "remove it to make it anew of the published files")
        _warn_of_left_out(listed, path)
        rows = [self._image(row, path) for row in listed if self._is_chosen(row.cells)]
        if not rows:
            raise XrayError(
                f"{path} lists no picture of {', '.join(self.body_parts)} in the views {', '.join(self.views)} that is"
                " not left out; choose other body_parts or views, or take hardware or multiscan."
            )
        return pd.DataFrame(rows)

    def _is_chosen(self, cells: Mapping[str, str]) -> bool:
        parts, views = (set(cells.get(name, "").split("+")) - {""} for name in ("body_part", "view"))
        return (
            not cells.get("left_out")
            and (parts or {"hand"}) <= set(self.body_parts)
            and views <= set(self.views)
            and (self.hardware or cells.get("hardware", "") in ("", "0"))
            and (self.multiscan or cells.get("multiscan", "") in ("", "0"))
        )

    def _image(self, row: Row, path: Path) -> dict[str, Any]:
        cells = row.cells
        return {
            "image_path": str(self.root / cells["image_path"]),
            "patient": cells["group"],
            "study": cells["image_path"],
            "label_index": label_index(cells.get("label", "normal"), f"line {row.line} of {path}"),
            "mask_path": str(self.root / cells["mask_path"]) if cells.get("mask_path") else "",
            "boxes": cells.get("boxes", "[]"),
            "view": cells.get("view", ""),
        }


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


def _chosen(given: str | Sequence[str], known: Collection[str], what: str) -> list[str]:
    names = [name.lower() for name in ([given] if isinstance(given, str) else given)]
    if names == ["all"]:
        return sorted(known)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise XrayError(
            f"FracAtlas has no {what} {', '.join(unknown) or 'in an empty list'}; choose of {', '.join(known)}, or all."
        )
    return sorted(set(names))


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
            rows[first]["left_out"] = f"nearly the same as {names[second]}, which has {_TURNED}"
            rows[second]["left_out"] = f"nearly the same as {names[first]}, which has {_TURNED}"
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


def _warn_of_left_out(listed: Sequence[Row], path: Path) -> None:
    """Counts the pictures that are left out, and names those with two labels."""
    left_out = {Path(row.cells["image_path"]).name: row.cells.get("left_out", "") for row in listed}
    reasons = {name: reason for name, reason in left_out.items() if reason}
    if not reasons:
        return
    doubtful = [name for name, reason in reasons.items() if _TURNED in reason or reason.startswith("called")]
    logger.warning(
        "%s: pictures that are left out, with their reasons in the column left_out: %d (first %s: %s)%s.",
        path, len(reasons), next(iter(reasons)), next(iter(reasons.values())).rstrip("."),
        f"; of doubtful label: {', '.join(doubtful)}" if doubtful else "",
    )  # fmt: skip
