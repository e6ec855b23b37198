"""Radiographs of named body parts: their listing from a table or from folders, and the variations to learn from."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import list_radiographs
from anomalib_xray.io.paths import Finder, absolute
from anomalib_xray.io.progress import track
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.tables import check_columns, identity, read_table
from anomalib_xray.preparation.networks import Network
from anomalib_xray.preparation.step import Mask
from anomalib_xray.preparation.steps.recognise import SIDE, VIEW_SIDE
from anomalib_xray.preparation.view import small_view

logger = logging.getLogger(__name__)

TRAIN, HELD_OUT = "train", "held out"

_MASKED = 0.35  # share of the inputs that look as behind the foreground step
_MURA_FOLDER = re.compile(r"XR_([A-Z]+)")
_MURA_PATIENT = re.compile(r"patient\d+")


@dataclass(frozen=True)
class Labelled:
    """A radiograph of a known body part.

    Attributes:
        path: Its file.
        body_part: The body part, in lower case.
        group: The patient, or whatever must not stand on both sides of a split.
        split: ``train`` or ``held out``; empty where neither is said.
    """

    path: Path
    body_part: str
    group: str
    split: str = ""


@dataclass(frozen=True)
class Example:
    """A radiograph to learn from, as a ``view`` (h, w) of at most 160 pixels a side.

    Attributes:
        view: The view.
        foreground: The foreground that a network finds in it, (h, w).
        label: Number of its body part.
    """

    view: NDArray[np.uint8]
    foreground: Mask
    label: int


def list_table(table: Path) -> list[Labelled]:
    """The radiographs of a table.

    It has the columns ``image_path`` (absolute or from the table's folder) and ``body_part``, and where known ``group``
    or ``patient``, and ``split`` (``train``; all others are held out).

    Raises:
        XrayError: The table cannot be read, lacks a column or a cell, or names a file that does not exist.
    """
    rows = read_table(table)
    check_columns(rows, table, ["image_path", "body_part"], "give the path and the body part of each radiograph")
    finder = Finder(absolute(table.parent))
    found = []
    for row in rows:
        part, path = identity(row.cells["body_part"]).lower(), finder.find(row.cells["image_path"])
        if not part or not path.is_file():
            lacks = "no body_part" if not part else f"a file that does not exist, {row.cells['image_path']!r}"
            raise XrayError(f"line {row.line} of {table} has {lacks}: mend or remove it.")
        group = row.cells.get("group") or row.cells.get("patient") or row.cells["image_path"]
        split = row.cells.get("split", "").lower()
        found.append(Labelled(path, part, identity(group), split and (TRAIN if split == TRAIN else HELD_OUT)))
    return found


def list_folders(root: Path) -> list[Labelled]:
    """The radiographs below a folder, with body part and group as of :func:`told_by`.

    Raises:
        XrayError: There is no such folder, or no radiograph in a folder of a body part.
    """
    if not root.is_dir():
        raise XrayError(f"There is no folder {root}: give one with a folder per body part, such as MURA-v1.1.")
    found = []
    for path in list_radiographs(root):
        part, group = told_by(path.relative_to(root).as_posix())
        if part:
            found.append(Labelled(path, part, group))
    if not found:
        raise XrayError(f"{root} has no radiograph in a folder of a body part, such as XR_HAND or hand.")
    return found


def told_by(name: str) -> tuple[str, str]:
    """Body part and group of a radiograph, from its path below its root, with forward slashes.

    In MURA they are named by ``XR_ELBOW`` and ``patient00011``. Elsewhere the first folder names the body part, and a
    folder below that is the group; a picture without such a folder is a group of its own.

    Example:
        >>> told_by("train/XR_ELBOW/patient00011/study1_negative/image1.png")
        ('elbow', 'patient00011')
        >>> told_by("hip/image1.png")
        ('hip', 'hip/image1.png')
    """
    folders = name.split("/")[:-1]
    mura = next((match[1].lower() for folder in folders if (match := _MURA_FOLDER.fullmatch(folder))), "")
    if mura:
        return mura, next((folder for folder in folders if _MURA_PATIENT.fullmatch(folder)), name)
    return (folders[0].lower() if folders else ""), ("/".join(folders) if len(folders) > 1 else name)


def split_by_group(listed: Sequence[Labelled], held_out: float, seed: int) -> list[Labelled]:
    """The radiographs, each learned from or held out, as the table says or by a share of all groups."""
    if any(one.split for one in listed):
        return [one if one.split else replace(one, split=TRAIN) for one in listed]
    groups = sorted({one.group for one in listed})
    chosen = np.random.default_rng(seed).permutation(len(groups))[: round(held_out * len(groups))]
    away = {groups[index] for index in chosen}
    return [replace(one, split=HELD_OUT if one.group in away else TRAIN) for one in listed]


def at_most(listed: Sequence[Labelled], per_part: int, seed: int) -> list[Labelled]:
    """At most ``per_part`` radiographs of each body part on each side of the split, drawn with a seed."""
    rng, kept = np.random.default_rng(seed), []
    for key in sorted({(one.body_part, one.split) for one in listed}):
        those = [one for one in listed if (one.body_part, one.split) == key]
        kept += [those[index] for index in sorted(rng.permutation(len(those))[:per_part])]
    return kept


def load_examples(listed: Sequence[Labelled], parts: Sequence[str]) -> list[Example]:
    """Read radiographs; one that cannot be read is left out, and a warning says why.

    ``parts`` are the body parts in the order of their numbers.

    Raises:
        XrayError: No radiograph of a body part can be read.
    """
    network, examples = Network(), []
    for one in track(listed, "Reading radiographs"):
        try:
            image = read_radiograph(one.path)
        except XrayError as error:
            logger.warning("left out: %s", error)
            continue
        foreground = network.segment(small_view(image)).astype(np.uint8)
        view = small_view(image, VIEW_SIDE)
        mask = cv2.resize(foreground, (view.shape[1], view.shape[0]), interpolation=cv2.INTER_NEAREST)
        examples.append(Example(view, np.asarray(mask > 0), parts.index(one.body_part)))
    lacking = sorted({one.body_part for one in listed} - {parts[example.label] for example in examples})
    if lacking:
        raise XrayError(f"None of the listed radiographs of {lacking[0]} can be read: replace them.")
    return examples


def draw_batch(
    examples: Sequence[Example], shares: NDArray[np.float32], size: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw inputs (N, 1, 128, 128) in [0, 1] and labels (N,).

    A body part is drawn by its share in ``shares`` (K,), above 0, however many examples it has: those that are hard to
    tell are to be seen more often than those that are known.
    """
    parts = rng.choice(len(shares), size, p=shares / shares.sum(dtype=np.float64))
    of_part = [[one for one in examples if one.label == part] for part in range(len(shares))]
    chosen = [of_part[part][rng.integers(len(of_part[part]))] for part in parts]
    images = np.stack([varied(one, rng) for one in chosen])[:, None]
    return images, np.array([one.label for one in chosen], np.int64)


def varied(example: Example, rng: np.random.Generator) -> NDArray[np.float32]:
    """An input (128, 128) in [0, 1] of an example in another position, exposure and frame.

    Nothing but anatomy may tell the body parts: those of one hospital share plate, shape and grey levels. So position,
    scale, shape, grey levels, sharpness and what stands beside the body vary much more than between hospitals.
    """
    view = example.view
    if rng.random() < _MASKED and example.foreground.any():
        view = _prepared(view, example.foreground, crop=bool(rng.random() < 0.5))
    image = _moved(_cut(view, rng), rng)
    return _exposed(_marked(image, rng), rng)


def _prepared(view: NDArray[np.uint8], foreground: Mask, *, crop: bool) -> NDArray[np.uint8]:
    """A view as behind the foreground step, or as behind the cropping one."""
    masked = np.where(foreground, np.maximum(view, 1), 0).astype(np.uint8)
    if not crop:
        return masked
    x, y, width, height = cv2.boundingRect(foreground.astype(np.uint8))
    return masked[y : y + height, x : x + width]


def _cut(view: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A part of a view with at least 70 % of each side, or half of the time all of it."""
    if rng.random() < 0.5:
        return view
    height, width = (max(round(side * rng.uniform(0.7, 1)), 1) for side in view.shape)
    top, left = (int(rng.integers(full - side + 1)) for full, side in zip(view.shape, (height, width), strict=True))
    return view[top : top + height, left : left + width]


def _moved(view: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """A view in [0, 1], laid into the input: turned by any quarter and a few degrees, mirrored, stretched, shifted."""
    fit = SIDE / max(view.shape)
    angle = np.deg2rad(90 * rng.integers(4) + rng.normal(0, 12))
    scale, stretch = fit * np.exp(rng.uniform(-0.4, 0.25)), np.exp(rng.uniform(-0.2, 0.2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.diag([scale * stretch * rng.choice([-1, 1]), scale / stretch])
    centre = np.array([view.shape[1] - 1, view.shape[0] - 1]) / 2
    shift = (SIDE - 1) / 2 + rng.uniform(-0.1, 0.1, 2) * SIDE - turn @ centre
    matrix = np.column_stack([turn, shift])
    # A mean of the pixels that fall into one, as when a picture is made smaller.
    smooth = cv2.GaussianBlur(view, (0, 0), 0.4 / scale) if scale < 0.8 else view
    moved = cv2.warpAffine(smooth, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    return np.asarray(moved, np.float32) / np.float32(255)


def _marked(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """An input with markers and borders of plates, or none."""
    for _ in range(rng.integers(3)):
        height, width = rng.integers(2, SIDE // 6, 2)
        top, left = rng.integers(SIDE - height), rng.integers(SIDE - width)
        image[top : top + height, left : left + width] = rng.random()
    if rng.random() < 0.3:
        image = np.rot90(image, int(rng.integers(4))).copy()
        image[: rng.integers(1, SIDE // 8)] = rng.choice([0.0, 1.0, rng.random()])
    return image


def _exposed(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """An input with another exposure, sharpness and noise, sometimes inverted."""
    image = image ** np.float32(np.exp(rng.normal(0, 0.35)))
    if rng.random() < 0.4:
        across = np.linspace(-1, 1, SIDE, dtype=np.float32)
        x, y = rng.normal(0, 0.3, 2)
        image = image * np.exp(x * across[None] + y * across[:, None]).astype(np.float32)
    image = image / max(float(np.quantile(image, rng.uniform(0.9, 1))), 0.05)  # films are overexposed at times
    if rng.random() < 0.4:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.9)), np.float32)
    if rng.random() < 0.4:
        noise = rng.normal(0, rng.uniform(0, 0.3) * float(image.std()), image.shape)
        image = image + noise.astype(np.float32)
    image = np.clip(image, 0, 1)
    return 1 - image if rng.random() < 0.1 else image
