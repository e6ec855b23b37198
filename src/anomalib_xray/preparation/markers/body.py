"""What keeps marker boxes off the body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.preparation.markers.detector import Quad, rectangle
from anomalib_xray.preparation.segmentation.flat import flat_foreground
from anomalib_xray.preparation.step import Mask

Polygon: TypeAlias = NDArray[np.float32]
"""Corners (K, 2): x, y in pixels."""

_MARGIN = 0.005  # of the longest side: the estimate's outline may lie inside the skin's
_LEAST_BODY = 0.1  # share of the picture; a smaller estimate has missed most of the body
_PLATE = (0.5, 0.9)  # shares of the picture that a plate with a hand on it takes, and not all of the film
_RECTANGULAR = 0.9  # share of its turned bounding box that it fills
_MOSTLY = 0.4  # share of a box on the body above which it is no marker beside it
_WHOLLY = 0.95  # the same above which it lies within it, like a bone
_FREE = 0.35  # brightness around a marker that stands free, from 0 as the background to 1 as the body
_LEAST = 9  # pixels; what is smaller is not worth filling


def body_of(view: NDArray[np.uint8]) -> Mask | None:
    """Where the body is, rather too large than too small.

    Args:
        view: (h, w), bones bright.

    Returns:
        (h, w); None where nothing large enough stands out.
    """
    body = flat_foreground(view)
    if _is_plate(body):
        body = _body_on_plate(view, body)
    elif body.mean() < _LEAST_BODY:
        threshold, _ = cv2.threshold(view, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        body = _body_on_plate(view, np.asarray(view > threshold))
    if body.mean() < _LEAST_BODY:
        return None
    reach = 2 * round(_MARGIN * max(view.shape)) + 1
    return np.asarray(cv2.dilate(body.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0)


def _is_plate(body: Mask) -> bool:
    """Whether what stands out is the bright plate that the body lies on."""
    if not _PLATE[0] < body.mean() < _PLATE[1]:
        return False
    _, size, _ = cv2.minAreaRect(np.argwhere(body).astype(np.float32))
    return bool(body.sum() >= _RECTANGULAR * size[0] * size[1])


def _body_on_plate(view: NDArray[np.uint8], plate: Mask) -> Mask:
    """Looks again with the surroundings of a bright plate made as bright as the plate."""
    inside = cv2.erode(plate.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=1) > 0
    if not inside.any():
        return plate
    level = np.percentile(view[inside], 25).astype(np.uint8)
    return flat_foreground(np.asarray(np.where(inside, view, level), np.uint8))


def beside_body(
    boxes: Sequence[Quad], margin: float, body: Mask, view: NDArray[np.uint8]
) -> tuple[list[Polygon], bool]:
    """What of the boxes may be filled without touching the body.

    Args:
        boxes: In pixels of the view.
        margin: How much longer and wider a box beside the body becomes, as a share of its shorter side.
        body: (h, w).
        view: (h, w), bones bright.

    Returns:
        The boxes with their margins, clipped where they touch the body a little, without those that lie on it or within
        others; and whether a box on the body's outline was clipped or dropped. Boxes within the body are bones.
    """
    polygons: list[Polygon] = []
    covered = np.zeros(body.shape, np.bool_)
    touching = False
    for box in sorted(boxes, key=cv2.contourArea, reverse=True):
        allowed, near = _allowed(box, margin, body, view)
        touching |= near
        region = filled(allowed, body.shape)
        if (region & ~covered).any():
            polygons += allowed
            covered |= region
    return polygons, touching


def _allowed(box: Quad, margin: float, body: Mask, view: NDArray[np.uint8]) -> tuple[list[Polygon], bool]:
    """What of one box may be filled, and whether the body's outline was in the way."""
    region = filled([box], body.shape)
    share = (region & body).sum() / max(region.sum(), 1)
    if share > _MOSTLY:
        if _stands_free(box, region, body, view):
            # The estimate took a marker that nearly touches the body for a part of it.
            return [box], False
        return [], bool(share < _WHOLLY)
    wider = rectangle(box, margin)
    region = filled([wider], body.shape)
    if (region & body).any():
        return _outlines(region & ~body), True
    return [wider], False


def _stands_free(box: Quad, region: Mask, body: Mask, view: NDArray[np.uint8]) -> bool:
    """Whether the view is dark all around a box: a line around a part of the body crosses the rest of it."""
    rest, background = view[body & ~region], view[~(body | region)]
    line = np.zeros(view.shape, np.uint8)
    cv2.polylines(line, [np.rint(box).astype(np.int32)], True, 1)
    around = cv2.GaussianBlur(view, (3, 3), 0)[line > 0]
    if not (rest.size and background.size and around.size):
        return False
    low, high = float(np.median(background)), float(np.median(rest))
    return bool(around.max() <= low + _FREE * (high - low))


def filled(polygons: Sequence[NDArray[np.generic]], shape: tuple[int, ...]) -> Mask:
    """The pixels in and on polygons.

    Args:
        polygons: Each (K, 2): x, y in pixels.
        shape: Height and width.

    Returns:
        (h, w).
    """
    region = np.zeros(shape, np.uint8)
    for polygon in polygons:
        # One at a time: together they would cancel out where they overlap.
        cv2.fillPoly(region, [np.rint(polygon.astype(np.float64)).astype(np.int32)], 1)
    return np.asarray(region > 0)


def _outlines(region: Mask) -> list[Polygon]:
    """The outline of each part of a region (h, w) that is worth filling."""
    outlines, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [outline.reshape(-1, 2).astype(np.float32) for outline in outlines if cv2.contourArea(outline) >= _LEAST]
