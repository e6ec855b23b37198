"""Lead markers: the protocol of their detectors, a detector by rules, and the rules that keep boxes off the body."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.preparation.segmentation import flat_foreground
from anomalib_xray.preparation.step import Mask

Quad: TypeAlias = NDArray[np.float32]
"""The corners (4, 2) of a turned rectangle: x, y in pixels, in order around it."""

# Lengths are shares of the view's longest side.
_STROKE = 0.07  # what is narrower in one direction stands out
_SMALLEST, _THINNEST = 0.012, 0.006
_LONGEST = 0.22  # letters often run into each other
_GAP = 0.03  # between the letters of one marker
_LONGEST_GROUP = 0.30
_AROUND = 0.5  # margin of the line around a group, as a share of its shorter side
_FRAME = 0.02  # what does not reach further into the picture is a rest of its frame
_LEAST_CONTRAST = 14
_LEAST_OF_BODY = 0.35  # least contrast as a share of the body's brightness
_DARK = 0.5  # brightness around a marker, from 0 as the darkest there to 1 as the letters
_SLENDEREST = 6  # longer side by shorter side; pieces of a film's frame are more slender than any letter
Polygon: TypeAlias = NDArray[np.float32]
"""Corners (K, 2): x, y in pixels."""
_MARGIN = 0.005  # of the longest side: the estimate's outline may lie inside the skin's
_LEAST_BODY = 0.04  # share of the picture; a smaller estimate has missed most of the body
_PLATE = (0.5, 0.9)  # shares of the picture that a plate with a hand on it takes, and not all of the film
_RECTANGULAR = 0.9  # share of its turned bounding box that it fills
_MOSTLY = 0.4  # share of a box on the body above which it is no marker beside it
_WHOLLY = 0.95  # the same above which it lies within it, like a bone
_FREE = 0.35  # brightness around a marker that stands free, from 0 as the background to 1 as the body
_LEAST = 9  # pixels; what is smaller is not worth filling
_THROUGH = 0.15  # share of a box that lies beyond the body which runs through it


class MarkerDetector(Protocol):
    """A detector of markers in a view of a radiograph."""

    @property
    def identity(self) -> str:
        """The name of the detector and whatever else its boxes depend on, such as its version."""

    def detect(self, view: NDArray[np.uint8], body: Mask) -> Sequence[Quad]:
        """Draw a box around each marker or line of writing; several of them may lie on one marker.

        Args:
            view: (h, w), bones bright, longest side about 512.
            body: Mask of the body, (h, w); a detector need not keep off it.
        """


def rectangle(points: NDArray[np.generic], margin: float = 0.0) -> Quad:
    """The smallest turned rectangle around points (K, 2), longer and wider by a share of its shorter side."""
    middle, (width, height), degrees = cv2.minAreaRect(points.astype(np.float32))
    more = margin * min(width, height)
    return np.asarray(cv2.boxPoints((middle, (width + more, height + more), degrees)), np.float32)


class BrightDetector:
    """Rules for lead letters: narrow, about as bright as bone, compact, and not part of the body."""

    @property
    def identity(self) -> str:
        """The rules' name and version."""
        return "bright 2"

    def detect(self, view: NDArray[np.uint8], body: Mask) -> Sequence[Quad]:
        """Draw a box around each group of small bright things that neither lie in the body nor touch it."""
        side = max(view.shape)
        letters = _letters(view, body)
        if not letters.any():
            return []
        reach = 2 * round(_GAP * side / 2) + 1
        count, groups = cv2.connectedComponents(cv2.dilate(letters.astype(np.uint8), np.ones((reach, reach), np.uint8)))
        quads = []
        for group in range(1, count):
            marker = letters & (groups == group)
            quad = rectangle(np.argwhere(marker)[:, ::-1])
            if (
                np.ptp(quad, axis=0).max() <= _LONGEST_GROUP * side
                and _reaches_inwards(quad, view)
                and _stands_alone(quad, marker, view)
            ):
                quads.append(quad)
        return quads


def may_hold_letters(view: NDArray[np.uint8], body: Mask) -> bool:
    """Whether anything beside the body is as small and bright as a letter could be; cheap, and seldom wrongly False."""
    side = max(view.shape)
    hat, least, _ = _raised(view, body)
    _, _, stats, _ = cv2.connectedComponentsWithStats(((hat > least) & ~body).astype(np.uint8))
    first, sides = stats[1:, :2], stats[1:, 2:4]  # left and top; width and height
    inwards = np.minimum(first + sides, view.shape[::-1] - first).min(axis=1) >= _FRAME * side
    longer, shorter = sides.max(axis=1), sides.min(axis=1)
    fitting = (longer >= _SMALLEST * side) & (longer <= _LONGEST_GROUP * side) & (shorter >= _THINNEST * side)
    return bool((inwards & fitting).any())


def _raised(view: NDArray[np.uint8], body: Mask) -> tuple[NDArray[np.uint8], float, float]:
    """What rises above its surroundings (h, w), the least height of letters, and the body's brightness."""
    stroke = 2 * round(_STROKE * max(view.shape) / 2) + 1
    hat = cv2.morphologyEx(view, cv2.MORPH_TOPHAT, np.ones((stroke, stroke), np.uint8))
    # Lead lets less through than bone; in a dim picture both are dim.
    level = float(np.median(view[body])) if body.any() else 0.0
    return np.asarray(hat, np.uint8), max(_LEAST_CONTRAST, _LEAST_OF_BODY * level), level


def _letters(view: NDArray[np.uint8], body: Mask) -> Mask:
    """The bright things (h, w) that have a letter's size and stand free."""
    side = max(view.shape)
    hat, least, level = _raised(view, body)
    bright = (hat > least) & (view >= level)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(bright.astype(np.uint8))
    sides = np.sort(stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]], axis=1)
    shorter, longer = sides[:, 0], sides[:, 1]
    fitting = (longer >= _SMALLEST * side) & (longer <= _LONGEST * side) & (longer <= _SLENDEREST * shorter)
    fitting[0] = False
    fitting[labels[body]] = False
    return np.asarray(fitting[labels])


def _reaches_inwards(quad: Quad, view: NDArray[np.uint8]) -> bool:
    """Whether a group of letters reaches further into the picture than the rest of a frame or a strip does."""
    to_far_border = np.subtract(view.shape[::-1], 1) - quad.min(axis=0)
    return bool(min(*quad.max(axis=0), *to_far_border) >= _FRAME * max(view.shape))


def _stands_alone(quad: Quad, marker: Mask, view: NDArray[np.uint8]) -> bool:
    """Whether it is dark around a group of letters: a line around a bone crosses the next one."""
    line = np.zeros(view.shape, np.uint8)
    cv2.polylines(line, [np.rint(rectangle(quad, _AROUND)).astype(np.int32)], True, 1)
    around = view[line > 0]
    if not around.size:
        return True
    darkest, bright = np.percentile(around, (10, 95))
    return bool(bright <= darkest + _DARK * (np.median(view[marker]) - darkest))


def body_of(view: NDArray[np.uint8]) -> Mask | None:
    """Mask of the body, (h, w), rather too large than too small; None if nothing large enough stands out."""
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
    """Whether the bright plate stands out on which the body lies."""
    if not _PLATE[0] < body.mean() < _PLATE[1]:
        return False
    _, size, _ = cv2.minAreaRect(np.argwhere(body).astype(np.float32))
    return bool(body.sum() >= _RECTANGULAR * size[0] * size[1])


def _body_on_plate(view: NDArray[np.uint8], plate: Mask) -> Mask:
    """Look again with the surroundings of a bright plate made as bright as the plate."""
    inside = cv2.erode(plate.astype(np.uint8), np.ones((9, 9), np.uint8), borderValue=1) > 0
    if not inside.any():
        return plate
    level = np.percentile(view[inside], 25).astype(np.uint8)
    return flat_foreground(np.asarray(np.where(inside, view, level), np.uint8))


def beside_body(
    boxes: Sequence[Quad], margin: float, body: Mask, view: NDArray[np.uint8]
) -> tuple[list[Polygon], bool]:
    """The parts of boxes that may be filled without touching the body.

    Args:
        boxes: In pixels of the view.
        margin: Widening of a box beside the body, as a share of its shorter side.
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
    """The parts of one box that may be filled, and whether the body's outline was in the way."""
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
        outside = (region & ~body).astype(np.uint8)
        outlines, _ = cv2.findContours(outside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        worth = [outline for outline in outlines if cv2.contourArea(outline) >= _LEAST]
        if sum(cv2.contourArea(outline) >= _THROUGH * cv2.contourArea(wider) for outline in worth) > 1:
            return [], True  # a joint or a cast, and the plate on both sides of it
        return [outline.reshape(-1, 2).astype(np.float32) for outline in worth], True
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
    """The pixels in and on polygons, each (K, 2)."""
    region = np.zeros(shape, np.uint8)
    for polygon in polygons:
        # One at a time: together they would cancel out where they overlap.
        cv2.fillPoly(region, [np.rint(polygon.astype(np.float64)).astype(np.int32)], 1)
    return np.asarray(region > 0)
