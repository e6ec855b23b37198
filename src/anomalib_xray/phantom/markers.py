"""Lead letters on the plate: the side, and often the initials of the radiographer."""

from __future__ import annotations

import dataclasses
import string

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.phantom.attenuation import Mask, Plane

_LEAD = 4.0  # attenuation of a lead letter


@dataclasses.dataclass(frozen=True)
class Marker:
    """A lead marker.

    Attributes:
        attenuation: Its attenuation (H, W).
        box: Its bounding box x0, y0, x1, y1 in pixels, the second corner outside.
    """

    attenuation: Plane
    box: tuple[int, int, int, int]


def place_marker(hands: Mask, side: str, rng: np.random.Generator, *, tries: int = 60) -> Marker | None:
    """A marker at a random free place of the plate, or None when the hands leave no room for it.

    Args:
        hands: Where the hands are, (H, W).
        side: ``"L"`` or ``"R"``.
        rng: Source of randomness.
        tries: How many places are tried.

    Returns:
        The marker.
    """
    longest = max(hands.shape)
    tile = _turned(
        _tile(side, round(longest * rng.uniform(0.09, 0.15)), rng), float(rng.choice([0, 0, 0, 90]) + rng.normal(0, 14))
    )
    height, width = tile.shape
    free_rows, free_columns = hands.shape[0] - height, hands.shape[1] - width
    if free_rows <= 0 or free_columns <= 0:
        return None
    sums = cv2.integral(hands.astype(np.uint8))
    for _ in range(tries):
        y, x = int(rng.integers(free_rows)), int(rng.integers(free_columns))
        if sums[y + height, x + width] - sums[y, x + width] - sums[y + height, x] + sums[y, x] == 0:
            plane = np.zeros(hands.shape, np.float32)
            plane[y : y + height, x : x + width] = tile
            columns, rows = np.nonzero(tile.any(axis=0))[0], np.nonzero(tile.any(axis=1))[0]
            box = (x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1)
            return Marker(plane, box)
    return None


def _tile(side: str, height: int, rng: np.random.Generator) -> Plane:
    """A plastic tag with a large letter and small initials under it, at four times the size."""
    size = height * 4
    width = round(size * rng.uniform(0.6, 0.8))
    lead = np.zeros((size, width), np.uint8)
    plastic = float(rng.choice([0.0, 0.04, 0.1]))
    letters = "".join(rng.choice(list(string.ascii_uppercase), int(rng.integers(2, 4)))) if rng.random() < 0.7 else ""
    for text, share, middle in ((side, 0.42 if letters else 0.7, 0.32 if letters else 0.5), (letters, 0.24, 0.76)):
        if text:
            _write(lead, text, share * size, middle * size)
    return np.asarray(plastic + _LEAD * lead.astype(np.float32) / 255, np.float32)


def _write(tag: NDArray[np.uint8], text: str, height: float, middle: float) -> None:
    thickness = max(2, round(height * 0.16))
    scale = cv2.getFontScaleFromHeight(cv2.FONT_HERSHEY_SIMPLEX, round(height), thickness)
    (width, tall), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    shrink = min(1.0, 0.88 * tag.shape[1] / width)
    origin = (round((tag.shape[1] - width * shrink) / 2), round(middle + tall * shrink / 2))
    cv2.putText(
        tag, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale * shrink, 255, max(2, round(thickness * shrink)), cv2.LINE_AA
    )


def _turned(tag: Plane, degrees: float) -> Plane:
    """The tag turned and brought to its final size, on a tile that just holds it."""
    height, width = tag.shape
    corners = cv2.boxPoints(((width / 2, height / 2), (width, height), degrees))
    spread = np.ptp(corners, axis=0)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1)
    target = np.ceil(spread / 4).astype(int) * 4 + 8
    matrix[:, 2] += target / 2 - (width / 2, height / 2)
    turned = cv2.warpAffine(tag, matrix, target.tolist(), flags=cv2.INTER_LINEAR)
    return np.asarray(cv2.resize(turned, (target // 4).tolist(), interpolation=cv2.INTER_AREA), np.float32)
