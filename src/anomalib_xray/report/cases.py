"""Best and worst cases of a model as pictures with heat maps."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.edge.overlay import Picture, blend
from anomalib_xray.experiments.grid import CASES
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.text import read_frame, read_text

if TYPE_CHECKING:
    import pandas as pd

KINDS = {
    "most anomalous abnormal": "found",
    "least anomalous abnormal": "missed first",
    "most anomalous normal": "false alarms first",
    "least anomalous normal": "",
}
"""Kinds of cases in the order of the report, and their meaning as results."""

LONGEST = 384
"""Longest side in pixels of a picture in the report."""

_QUALITY = 85  # of JPEG, which is coded ten times as fast as WebP and half as large again

_CONTOUR = (255, 220, 90)  # blue, green, red: light blue, which the heat map never is
_SHARE = 0.998
"""Share of all values of the maps that lies below the end of the colours."""


@dataclass(frozen=True)
class Case:
    """A case with its picture.

    Attributes:
        kind: Its kind, see :data:`KINDS`.
        name: Name of the image.
        score: Its score.
        uri: The view of the model, and beside it the view with its heat map; empty if it is missing.
        width: Width of the picture in pixels.
        height: Its height.
        has_map: Whether there is a heat map.
        has_mask: Whether the true anomaly is outlined.
    """

    kind: str
    name: str
    score: float
    uri: str
    width: int = 0
    height: int = 0
    has_map: bool = False
    has_mask: bool = False


def read_cases(folder: Path) -> list[Case]:
    """Reads and draws the cases of a cell, if it has any.

    The colours of all its pictures have one scale: they begin at a quarter of the range of the maps' values and end at
    its end, which one value in 500 exceeds.
    """
    path = folder / CASES / "cases.csv"
    if not path.is_file() or not read_text(path).strip('"\n'):
        return []
    text, numbers = ("kind", "image", "map", "image_path"), ("low", "high", "score")
    table = read_frame(path, (*text, *numbers), text=(*text, "mask"), advice="run the cell again")
    if "mask" not in table:
        table["mask"] = ""
    maps = [_read_map(folder / CASES, row["map"], row["low"], row["high"]) for _, row in table.iterrows()]
    scale = _scale([one for one in maps if one is not None])
    names = short_names(table["image_path"].tolist())
    return [
        _case(folder / CASES, row, name, one, scale)
        for (_, row), name, one in zip(table.iterrows(), names, maps, strict=True)
    ]


def short_names(paths: Sequence[str]) -> list[str]:
    """Names of files with the folders that differ, at most three.

    >>> short_names(["/data/a/1.png", "/data/b/1.png"])
    ['a/1.png', 'b/1.png']
    """
    parts = [path.replace("\\", "/").split("/") for path in paths]
    folders = [path[:-1] for path in parts]
    shared = sum(1 for _ in takewhile(lambda names: len(set(names)) == 1, zip(*folders, strict=False)))
    return ["/".join(path[shared:][-4:]) for path in parts]


def _case(
    folder: Path, row: pd.Series[str], name: str, heat_map: NDArray[np.float32] | None, scale: tuple[float, float]
) -> Case:
    image = _read(folder, row["image"])
    if image is None:
        return Case(row["kind"], name, float(row["score"]), "")
    grey = (image / (65535 if image.dtype == np.uint16 else 255) * 255).round().astype(np.uint8)
    factor = LONGEST / max(grey.shape)
    size = (max(round(grey.shape[1] * factor), 1), max(round(grey.shape[0] * factor), 1))
    plain: Picture = cv2.cvtColor(
        cv2.resize(grey, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC), cv2.COLOR_GRAY2BGR
    ).astype(np.uint8)
    pictures = [plain]
    if heat_map is not None:
        low, high = scale
        level = 2 * (cv2.resize(heat_map, size, interpolation=cv2.INTER_LINEAR) - low) / max(high - low, 1e-12)
        pictures.append(blend(plain, level.astype(np.float32)))
    mask = _read(folder, row["mask"])
    if mask is not None:
        region = cv2.resize((mask > 0).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(region, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        for picture in pictures:
            cv2.drawContours(picture, outlines, -1, _CONTOUR, 1, cv2.LINE_AA)
    drawn = np.hstack(pictures).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    uri = "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
    height, width, _ = drawn.shape
    return Case(row["kind"], name, float(row["score"]), uri, width, height, heat_map is not None, mask is not None)


def _read_map(folder: Path, name: str, low: object, high: object) -> NDArray[np.float32] | None:
    stored = _read(folder, name)
    if stored is None:
        return None
    bottom, top = float(str(low)), float(str(high))
    return (bottom + stored.astype(np.float32) / 65535 * (top - bottom)).astype(np.float32)


def _read(folder: Path, name: str) -> NDArray[np.uint8] | NDArray[np.uint16] | None:
    """A picture of the folder, never of another one; ``None`` if it is missing."""
    path = folder / Path(name).name
    return read_radiograph(path) if name and path.is_file() else None


def _scale(maps: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """Bottom and end of the colours, for all pictures of a model."""
    if not maps:
        return 0.0, 1.0
    values = np.concatenate([one.ravel() for one in maps])
    # Errors and distances begin at 0; only maps that go below need a bottom of their own.
    return min(0.0, float(values.min())), float(np.quantile(values, _SHARE))
