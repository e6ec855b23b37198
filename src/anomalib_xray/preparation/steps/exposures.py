"""The step that divides a picture whose plate was exposed several times into its exposures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.io.read import Radiograph
from anomalib_xray.preparation.step import Matrix, Plan, Step
from anomalib_xray.preparation.view import scaling, small_view

View: TypeAlias = NDArray[np.uint8]
Polygon: TypeAlias = NDArray[np.float32]
"""Corners (n, 2) as x and y of a convex part of the picture."""

_VIEW_SIDE = 256  # the longest side; a divider that is lost at this size has no edge that could be told from noise
_BANDS = 32  # across a divider, in each of which its edge is looked for: their means show steps below the noise
_TILT = 0.1  # of a divider from upright or level, as a slope
_SLOPES = 27
_WITHIN = (0.2, 0.8)  # of the picture, where its middle lies
_REACH = 3  # pixels between an edge and the levels beside it
_FAINT = 2.0  # grey levels of an edge's step in the mean of a band
_STRONG = 45.0  # the same for lead, which is the white wedge
_SUPPORT = 0.8  # of the bands that show an edge of one direction, if the divider is faint
_WEDGE = 0.25  # of the bands that it crosses from a border, if it is lead; beyond its tip there may be nothing
_BLOCKED = 0.07  # of the bands in which something lies across; a limb that crosses the line takes more
_WHITE = 215  # grey level of a strip or a wedge that no ray passed to the plate, or all did
_GROUND = 20  # percentile of the grey levels that the background has
_LEAD = 190  # the same in the mean of a band, whose edges are jagged
_ABOVE = 0.18  # of a picture's contrast, by which a limb at least stands out from its ground
_CLEAR = 0.1  # of it, by which the background varies
_LEAST = 6.0  # grey levels, the same for pictures of little contrast
# A limb in an exposure, in relation to the divider's length: its area, its box's shorter side, its extent along it.
_LIMB, _BREADTH, _LENGTH = 0.03, 0.12, 0.25
_DETAIL = 1.5  # grey levels, beside lead the half; bones have edges, the glow of a strip or a plate's stripes hardly
_WIDEST = 0.13  # of the picture's side that a divider is wide
_NARROW = 0.06  # the same for one that is not lead
_STRIP = 0.9  # of a band that a bright strip along a border covers
_TRIED = 20  # lines that are looked at closely
_DEPTH = 2  # divisions one within another


@dataclass(frozen=True)
class Edge:
    """A straight edge from border to border in a view: its columns at the ``top`` and the ``bottom``.

    ``lead`` is the share of the bands in which lead lies beside it.
    """

    top: float
    bottom: float
    lead: float = 0.0

    def columns(self, count: int) -> NDArray[np.float64]:
        """The columns (count,) in the middle of as many bands."""
        return self.top + (self.bottom - self.top) * (np.arange(count) + 0.5) / count


class Exposures(Step):
    """Divide a picture of several exposures on one plate into one picture each; any other passes as it is.

    Exposures lie side by side or one above the other. Between them runs a divider from border to border, straight and
    at most slightly tilted: a wedge of lead, which is white and may end halfway, a grey or black stripe, or a step of
    the background. The divider is left out. What lies on both sides must look like a limb, and no limb may cross: where
    one only reaches up to the divider the cut runs along it. Comes after inversion and before the carrier crop, which
    would take one of the exposures for the carrier.

    Flags: ``two_exposures``, ``several_exposures`` (three or more).

    Example:
        >>> Exposures().plan(np.full((64, 64), 20, np.uint8))
        Plan(parameters={}, flags=())
    """

    def plan(self, image: Radiograph) -> Plan:
        """Find the ``exposures``, each with its ``corners`` [x, y], its ``box`` and the ``level`` around it.

        The ``dividers`` are lines [x0, y0, x1, y1] from border to border.
        """
        view = small_view(image, _VIEW_SIDE)
        parts, dividers = divided(view)
        if len(parts) < 2:
            return Plan()
        to_picture = scaling(view.shape, image.shape)
        return Plan(
            {
                "exposures": [_exposure(image, view, part, to_picture) for part in parts],
                "dividers": [_moved(ends, to_picture).ravel().round(1).tolist() for ends in dividers],
            },
            ("two_exposures" if len(parts) == 2 else "several_exposures",),
        )

    def parts(self, plan: Plan) -> Sequence[Plan]:
        """One plan per exposure, from left to right or from top to bottom."""
        return [Plan({"exposures": [exposure]}, plan.flags) for exposure in plan.parameters["exposures"]]

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        """Cut out the one exposure of a plan's part; corners beyond a tilted divider get the background's level."""
        (exposure,) = plan.parameters["exposures"]
        x0, y0, x1, y1 = exposure["box"]
        inside = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillConvexPoly(inside, np.rint(np.array(exposure["corners"]) - (x0, y0)).astype(np.int32), 1)
        return cast("Radiograph", np.where(inside > 0, image[y0:y1, x0:x1], image.dtype.type(exposure["level"])))

    def matrix(self, plan: Plan) -> Matrix:
        """The shift to the corner of the one exposure of a plan's part."""
        (exposure,) = plan.parameters["exposures"]
        x0, y0, _, _ = exposure["box"]
        return np.array([[1.0, 0.0, -x0], [0.0, 1.0, -y0], [0.0, 0.0, 1.0]])


def _exposure(image: Radiograph, view: View, part: Polygon, to_picture: Matrix) -> dict[str, Any]:
    """The plan for one part of a picture."""
    corners = np.clip(_moved(part, to_picture), 0, (image.shape[1] - 1, image.shape[0] - 1))
    (x0, y0), (x1, y1) = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int)
    inside = np.zeros(view.shape, np.uint8)
    cv2.fillConvexPoly(inside, np.rint(part).astype(np.int32), 1)
    # The level is taken from the picture itself: its depth may be another than the view's.
    rows, columns = np.nonzero((inside > 0) & (view <= np.percentile(view[inside > 0], 30)))
    places = _moved(np.column_stack([columns, rows]).astype(np.float32), to_picture).astype(int)
    level = int(np.median(image[places[:, 1].clip(0, image.shape[0] - 1), places[:, 0].clip(0, image.shape[1] - 1)]))
    box = [int(x0), int(y0), int(x1) + 1, int(y1) + 1]
    return {"corners": corners.round(1).tolist(), "box": box, "level": level}


def _moved(points: Polygon, matrix: Matrix) -> NDArray[np.float64]:
    return np.asarray(points @ matrix[:2, :2].T + matrix[:2, 2], np.float64)


def divided(view: View, depth: int = _DEPTH) -> tuple[list[Polygon], list[Polygon]]:
    """The exposures of a view (h, w), the whole of it if there is one, and the ends (2, 2) of the dividers."""
    height, width = view.shape
    whole = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float32)
    found = _halves(view) if depth and min(view.shape) >= _BANDS else None
    if found is None:
        return [whole], []
    halves, ends = found
    parts, dividers = [], [ends]
    for half in halves:
        x, y, wide, tall = cv2.boundingRect(np.rint(half).astype(np.int32))
        inner, further = divided(np.ascontiguousarray(view[y : y + tall, x : x + wide]), depth - 1)
        if len(inner) == 1:
            parts.append(half)
            continue
        for part in inner:
            _, common = cv2.intersectConvexConvex(part + np.array([x, y], np.float32), half)
            parts.append(np.asarray(common, np.float32).reshape(-1, 2))
        dividers += [line + np.array([x, y], np.float32) for line in further]
    return parts, dividers


def _halves(view: View) -> tuple[list[Polygon], Polygon] | None:
    """Both sides of a divider in a view (h, w), and the divider's ends; None without one."""
    for turned in (False, True):
        plane = np.ascontiguousarray(view.T) if turned else view
        edges = _divider(plane)
        if edges is None:
            continue
        bottom, right = plane.shape[0] - 1, plane.shape[1] - 1
        (a, b), (c, d) = ((edge.top, edge.bottom) for edge in edges)
        shapes = [
            np.array(shape, np.float32).clip(0, np.array([right, bottom], np.float32))
            for shape in (
                [[0, 0], [a, 0], [b, bottom], [0, bottom]],
                [[c, 0], [right, 0], [right, bottom], [d, bottom]],
                [[(a + c) / 2, 0], [(b + d) / 2, bottom]],
            )
        ]
        first, second, middle = (np.ascontiguousarray(shape[:, ::-1] if turned else shape) for shape in shapes)
        return [first, second], middle
    return None


def _divider(view: View) -> tuple[Edge, Edge] | None:
    """The left and the right edge of an upright divider in a view (h, w), often the same; None without a divider."""
    bands = cv2.resize(view, (view.shape[1], _BANDS), interpolation=cv2.INTER_AREA).astype(np.float32)
    contrast = _contrast(view)
    found = ((edge, *_touching(bands, edge, contrast)) for edge in _edges(bands, view.shape[0])[:_TRIED])
    clear = [(touched - edge.lead, edge) for edge, blocked, touched in found if blocked <= _BLOCKED]
    # Lead first; then what is farthest from limbs, whose own edges are straight at times.
    edges = [edge for _, edge in sorted(clear, key=lambda pair: pair[0])]
    for edge in edges:
        beside = [other for other in edges if _bound_divider(bands, edge, other)]
        left, right = (
            Edge(outermost(other.top for other in beside), outermost(other.bottom for other in beside))
            for outermost in (min, max)
        )
        detail = _DETAIL * (0.5 if edge.lead >= _WEDGE else 1)
        if all(_shows_limb(side, contrast, detail) for side in _sides(view, left, right)):
            return left, right
    return None


def _bound_divider(bands: NDArray[np.float32], edge: Edge, other: Edge) -> bool:
    """Whether a divider lies between two edges: a narrow one, or lead."""
    share = _apart(edge, other) / bands.shape[1]
    between = np.rint((edge.columns(_BANDS) + other.columns(_BANDS)) / 2).astype(int).clip(0, bands.shape[1] - 1)
    lead = bands[np.arange(_BANDS), between] > _LEAD
    return share <= _NARROW or (share <= _WIDEST and bool(lead.mean() >= _WEDGE))


def _apart(edge: Edge, other: Edge) -> float:
    """The distance of two edges' middles."""
    return abs(edge.top + edge.bottom - other.top - other.bottom) / 2


def _edges(bands: NDArray[np.float32], height: int) -> list[Edge]:
    """Straight edges from border to border through the bands (n, w) of a view, the plainest first."""
    width = bands.shape[1]
    step = np.zeros_like(bands)
    step[:, 1:-1] = bands[:, 2:] - bands[:, :-2]
    step -= cv2.blur(step, (15, 1))  # vignetting
    white = cv2.erode((bands > _WHITE).astype(np.uint8), np.ones((1, 7), np.uint8)) > 0
    middles = np.arange(round(_WITHIN[0] * width), round(_WITHIN[1] * width))
    slopes = np.linspace(-_TILT, _TILT, _SLOPES)
    rows = (np.arange(_BANDS) + 0.5) / _BANDS - 0.5
    columns = np.rint(middles + slopes[:, None, None] * (rows * height)[None, :, None]).astype(np.intp)
    columns = columns.clip(0, width - 1) + np.arange(_BANDS)[None, :, None] * width
    neutral = white.ravel()[columns]
    beside = cv2.dilate(bands, np.ones((1, 2 * _REACH + 1), np.uint8)).ravel()[columns] > _LEAD
    counted = np.maximum((~neutral).sum(axis=1), _BANDS // 2)
    found: list[tuple[float, Edge]] = []
    for sign in (1, -1):
        highest = cv2.dilate(sign * step, np.ones((1, 3), np.uint8))
        here = highest.ravel()[columns]
        support = ((here > _FAINT) & ~neutral).sum(axis=1) / counted
        lead = ((here > _STRONG) & beside & ~neutral).sum(axis=1) / _BANDS
        score = np.where((support >= _SUPPORT) | (lead >= _WEDGE), support + lead, 0)
        while score.max() > 0:
            slope, place = np.unravel_index(score.argmax(), score.shape)
            tilt, middle = slopes[slope] * height / 2, middles[place]
            found.append((score[slope, place], Edge(middle - tilt, middle + tilt, lead[slope, place])))
            score[:, max(place - 4, 0) : place + 5] = 0
    return [edge for _, edge in sorted(found, key=lambda pair: -pair[0])]


def _level(values: NDArray[Any], contrast: float, share: float) -> float:
    """The grey level that lies above the background of a part of the picture by a share of the picture's contrast."""
    return float(np.percentile(values, _GROUND)) + max(share * contrast, _LEAST * share / _CLEAR)


def _contrast(view: View) -> float:
    """What a limb stands out by: from the background to the bright bones, but not to white strips."""
    darker = view[view < _WHITE]
    return float(np.ptp(np.percentile(darker, (_GROUND, 97)))) if darker.size else 0.0


def _touching(bands: NDArray[np.float32], edge: Edge, contrast: float) -> tuple[float, float]:
    """The shares of the bands (n, w) in which something lies on both sides of an edge, and at least on one."""
    places = np.arange(bands.shape[1])
    raised = np.zeros(_BANDS, np.int32)
    white, strips = np.zeros(_BANDS, np.bool_), np.ones(_BANDS, np.bool_)
    for away in (-_REACH, _REACH):
        columns = np.rint(edge.columns(_BANDS) + away).astype(int).clip(0, places[-1])
        beyond = (places - columns[:, None]) * away >= 0
        levels = bands[np.arange(_BANDS), columns]
        level = _level(bands[beyond], contrast, _CLEAR)
        raised += levels > level
        white |= levels > _LEAD
        strips &= np.count_nonzero(beyond & (bands > level), axis=1) > _STRIP * np.count_nonzero(beyond, axis=1)
    # Strips lie along a border, and cover it.
    ends = _BANDS // 5
    strips[ends:-ends] = False
    raised[white | strips] = 0
    return float((raised == 2).mean()), float((raised > 0).mean())


def _sides(view: View, left: Edge, right: Edge) -> Iterator[View]:
    """What lies on the left and on the right of a divider, as far as it is a rectangle."""
    yield view[:, : int(max(min(left.top, left.bottom) - _REACH, 0))]
    yield view[:, int(max(right.top, right.bottom)) + 1 + _REACH :]


def _shows_limb(side: View, contrast: float, detail: float) -> bool:
    """Whether something as large, broad and rich in detail as a limb stands out, other than white strips."""
    if side.shape[1] < _BANDS // 2:
        return False
    white = cv2.dilate((side > _WHITE).astype(np.uint8), np.ones((7, 7), np.uint8))
    raised = ((side > _level(side, contrast, _ABOVE)) & (white == 0)).astype(np.uint8)
    opened = cv2.morphologyEx(raised, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(opened)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()) if len(stats) > 1 else 0
    height = side.shape[0]
    _, _, wide, tall, area = stats[largest]
    if not largest or area < _LIMB * height**2 or min(wide, tall) < _BREADTH * height or tall < _LENGTH * height:
        return False
    inner = cv2.erode((parts == largest).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    grey = side.astype(np.float32)
    fine = np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1.5))
    return bool(inner.any() and np.median(fine[inner]) >= detail)
