"""The step that turns a limb upright: its axis vertical, its distal end, the fingers, up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph
from anomalib_xray.preparation.step import Mask, Matrix, Plan, Step
from anomalib_xray.preparation.view import blended, reduced, small_view

UNSURE = "upright_unsure"
"""Flag: which end is distal is not clear; the picture passes as it is."""
MIRRORED = "mirrored"
"""Flag: the picture was mirrored, so that the thumb is on the right as on a left hand from behind."""

_SIDE = 80  # longest side of the view in which the ends are compared; fingers are 3 pixels wide there
_DETAIL_SIDE = 160  # the same for bones, and for the web of the thumb, which is narrow
_LEAST_PIXELS = 40  # of a view; a smaller limb has no axis
_BANDS = 20  # pieces of a limb along its way, of which each end has half
_SURE = 0.75  # confidence from which on a picture is turned
_STRAIGHT = 2.0  # degrees below which a limb counts as upright: the axis is not known better, and turning blurs

_TAPER, _EXIT, _SPLIT, _BONES = 4.0, 2.0, 1.5, 5.0  # weights of the signs of a distal end, in logits
_TIP = 0.3  # share of a limb's way, from its end, on which fingers are counted
_ENTRY = 0.25  # share of a limb's way, from its end, on which it may leave the picture
_REGION = 0.35  # share of a limb's way, from its end, on which its bones are compared
_FLOOR = 8  # grey levels added to the brightness that contrasts refer to, or noise in the dark would count
_METAL = 0.3  # contrast above which an edge counts no more: rings, plates and wires

_BEND = 25.0  # degrees from which on the parts of a limb beside a bend have axes of their own
_SEGMENT = 0.4  # share of the centre line that the distal part has at least: forearm and hand, never the hand alone

_THUMB_GAP = 0.12  # share of the way from the first web to the fingertips by which the other webs are higher
_FINGER = 0.08  # share of that way by which a finger reaches beyond its web at least

Points: TypeAlias = NDArray[np.float64]
"""Points x, y (n, 2)."""
Distance: TypeAlias = NDArray[np.int32]
"""The way of each pixel (h, w) from a limb's end within the limb; -1 outside of it."""


@dataclass(frozen=True)
class _Limb:
    """A limb (h, w) in a view, and the ways of its pixels from its two ends."""

    mask: Mask
    ways: tuple[Distance, Distance]


class Upright(Step):
    """Turn the one limb of a picture upright: its axis vertical, its distal end up. Nothing of it is cut.

    Comes after the step that leaves one limb per picture, with a background of 0. The ends of a limb are the two pixels
    with the longest way between them inside of it. The distal one has fingers, is thinner than the other, and does not
    leave the picture; where these signs are weak or contradict each other, the picture passes as it is. The axis is a
    straight line through the centres of the limb along that way; of a bent limb it is that of the part beyond the bend,
    so a bent elbow has its forearm upright. Limbs that are upright within 2 degrees pass as they are.

    Flags: ``upright_unsure`` and ``mirrored``.

    Args:
        mirror: With ``left`` a hand whose thumb is seen on the left is mirrored, so that all look like left hands from
            behind. The outline cannot tell a left palm from a right hand's back. Where no thumb is seen nothing is
            mirrored. With ``off`` no picture is.
        margin: Background left around a limb that was turned, as a share of the longer side of its box, 0 to 1.

    Raises:
        XrayError: A setting has an impossible value.

    Example:
        >>> image = np.zeros((60, 200), np.uint8)
        >>> _ = cv2.fillPoly(image, [np.array([[0, 10], [0, 50], [180, 35], [180, 25]])], 99)
        >>> plan = Upright().plan(image)
        >>> round(plan.parameters["angle"], -1)  # its thin end is on the right: turned counter-clockwise
        -90.0
        >>> height, width = Upright().apply(image, plan).shape
        >>> height > width
        True
    """

    def __init__(self, mirror: Literal["off", "left"] = "off", margin: float = 0.02) -> None:
        if mirror not in ("off", "left"):
            raise XrayError(f"mirror is off or left, not {mirror!r}.")
        if not 0 <= margin <= 1:
            raise XrayError(f"margin is a share from 0 to 1, not {margin}.")
        self.mirror = mirror
        self.margin = margin

    def plan(self, image: Radiograph) -> Plan:
        """Find the ``angle`` of the turn and what the picture will be.

        The parameters are ``angle`` in degrees, clockwise, above -180 and up to 180; ``confidence`` that the upper end
        is the distal one, .5 to 1; ``mirrored``; and the new picture's ``corner`` [x, y] and ``size`` [height, width]
        on the plane of the turned one, whose origin is that of the picture.
        """
        limb = _find_limb(image, _SIDE)
        if limb is None:
            return Plan(flags=(UNSURE,))
        distal, confidence = _distal_end(limb, small_view(image, _DETAIL_SIDE))
        if confidence < _SURE:
            return Plan(flags=(UNSURE,))
        x, y = _axis(limb.ways[1 - distal])
        angle = round(math.degrees(math.atan2(-x, -y)), 1)
        angle = 0.0 if abs(angle) <= _STRAIGHT else angle
        mirrored = self.mirror == "left" and _thumb_is_left(image, angle)
        if angle == 0 and not mirrored:
            return Plan()
        corner, size = self._frame(image, _turn(angle, mirrored=mirrored))
        parameters = {"angle": angle, "confidence": round(confidence, 3), "mirrored": mirrored}
        return Plan({**parameters, "corner": corner, "size": size}, (MIRRORED,) if mirrored else ())

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        """Turn the picture; a pixel is background where at least half of it was."""
        height, width = plan.parameters["size"]
        matrix = self.matrix(plan)[:2]
        turned = (
            cv2.warpAffine(plane.astype(np.float32), matrix, (width, height), flags=cv2.INTER_LINEAR)
            for plane in (image, image > 0)
        )
        return blended(*turned, cast("type[np.uint8 | np.uint16]", image.dtype.type))

    def matrix(self, plan: Plan) -> Matrix:
        """The turn, the mirroring, and the shift to the new picture's corner."""
        x, y = plan.parameters["corner"]
        shift = np.array([[1.0, 0.0, -x], [0.0, 1.0, -y], [0.0, 0.0, 1.0]])
        return shift @ _turn(plan.parameters["angle"], mirrored=plan.parameters["mirrored"])

    def _frame(self, image: Radiograph, turn: Matrix) -> tuple[list[int], list[int]]:
        """Corner [x, y] and size [height, width] of the box around the turned foreground, with the margin."""
        shown = image > 0
        rows = np.flatnonzero(shown.any(axis=1))
        # The first and last pixels of each row are enough for the outermost ones after any turn.
        ends = shown[rows].argmax(axis=1), shown.shape[1] - 1 - shown[rows, ::-1].argmax(axis=1)
        points = np.array([(x, y, 1) for side in ends for x, y in zip(side, rows, strict=True)], np.float64)
        moved = (points @ turn.T)[:, :2]
        low, high = np.floor(moved.min(axis=0)), np.ceil(moved.max(axis=0))
        around = round(self.margin * float((high - low).max()))
        x, y = (low - around).astype(int).tolist()
        width, height = (high - low + 1 + 2 * around).astype(int).tolist()
        return [x, y], [height, width]


def _turn(angle: float, *, mirrored: bool) -> Matrix:
    """The matrix (3, 3) of a clockwise turn by degrees around the origin, and of mirroring left and right after it."""
    cosine, sine = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    way = -1.0 if mirrored else 1.0
    return np.array([[way * cosine, -way * sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def _find_limb(image: Radiograph, side: int) -> _Limb | None:
    """The largest connected part of the foreground in a view of the given longest side; None if it is tiny."""
    shown = reduced((image > 0).astype(np.uint8) * np.uint8(255), side) > 127
    count, labels, stats, _ = cv2.connectedComponentsWithStats(shown.astype(np.uint8))
    if count < 2 or stats[1:, cv2.CC_STAT_AREA].max() < _LEAST_PIXELS:
        return None
    mask = np.asarray(labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax()))
    places = np.argwhere(mask)
    # What is farthest from the middle is an end of a limb; what is farthest from there, by way, is the other one.
    first = places[int(((places - places.mean(axis=0)) ** 2).sum(axis=1).argmax())]
    way = _ways(mask, first)
    second = np.unravel_index(int(way.argmax()), way.shape)
    return _Limb(mask, (way, _ways(mask, np.array(second))))


def _ways(mask: Mask, start: NDArray[np.int64]) -> Distance:
    """The length of the way from a pixel (y, x) to each pixel (h, w) of a connected mask, in pixels."""
    square, cross = (cv2.getStructuringElement(shape, (3, 3)) for shape in (cv2.MORPH_RECT, cv2.MORPH_CROSS))
    inside = mask.astype(np.uint8)
    reached = np.zeros_like(inside)
    reached[tuple(start)] = 1
    # Grown by a square and a cross in turn, which makes octagons, nearly circles.
    held, count, steps = np.zeros(mask.shape, np.uint16), 1, 0
    while True:
        reached = cv2.bitwise_and(cv2.dilate(reached, cross if steps % 2 else square), inside)
        if (grown := cv2.countNonZero(reached)) == count:
            break
        cv2.add(held, reached, held, dtype=cv2.CV_16U)
        count, steps = grown, steps + 1
    return np.where(mask, steps - held.astype(np.int32), -1)


def _distal_end(limb: _Limb, view: NDArray[np.uint8]) -> tuple[int, float]:
    """Which of a limb's ends is the distal one, 0 or 1, and the confidence of that, .5 to 1.

    ``view`` (H, W) shows the limb, larger than its mask (h, w).
    """
    inside = limb.mask
    length = max(float(limb.ways[0].max()), 1.0)
    plane = np.clip((limb.ways[0] - limb.ways[1] + length) / (2 * length), 0, 1 - 1e-6)
    along = plane[inside]
    width = np.bincount((along * _BANDS).astype(int), minlength=_BANDS) + 1.0
    # The outermost bands are corners or fingertips.
    taper = math.log(width[1 : _BANDS // 2 - 3].sum() / width[_BANDS // 2 + 3 : -1].sum())
    frame = np.ones(inside.shape, np.bool_)
    frame[1:-1, 1:-1] = False
    on_frame = frame[inside]
    mean_width = inside.sum() / length
    exits = [min(float(on_frame[end].sum()) / mean_width, 1.0) for end in (along < _ENTRY, along > 1 - _ENTRY)]
    split = _fingers(limb.ways[0]) - _fingers(limb.ways[1])
    logit = _TAPER * taper + _EXIT * (exits[0] - exits[1]) + _SPLIT * split
    logit += _BONES * _bones(view, np.where(inside, plane, 0.5))
    return int(logit > 0), 1 / (1 + math.exp(-abs(logit)))


def _bones(view: NDArray[np.uint8], along: NDArray[np.float64]) -> float:
    """The logarithm of the mean contrast of a view (H, W) at a limb's end over that at its beginning.

    Many small bones have more contrast than one or two long ones. ``along`` (h, w) is the share of the limb's way.
    """
    grey = view.astype(np.float32)
    around = cv2.GaussianBlur(grey, (0, 0), 2)
    contrast = np.minimum(np.abs(grey - around) / (around + _FLOOR), _METAL)
    # Without the outline, which is all contrast.
    inner = cv2.erode(np.pad((view > 0).astype(np.uint8), 2), np.ones((5, 5), np.uint8))[2:-2, 2:-2] > 0
    place = cv2.resize(along.astype(np.float32), view.shape[::-1], interpolation=cv2.INTER_NEAREST)
    ends = inner & (place < _REGION), inner & (place > 1 - _REGION)
    if min(np.count_nonzero(end) for end in ends) < _LEAST_PIXELS:
        return 0.0
    first, second = (max(float(contrast[end].mean()), 1e-3) for end in ends)
    return math.log(second / first)


def _fingers(way: Distance) -> float:
    """The mean number of parts in which a limb reaches its far end, less 1; at most 2."""
    longest = int(way.max())
    counts = [len(_parts(way, level)) for level in range(int((1 - _TIP) * longest), longest - 1, 2)]
    return min(float(np.mean(counts)) - 1, 2.0) if counts else 0.0


def _parts(way: Distance, level: int) -> NDArray[np.float64]:
    """The parts of a limb at a length of way: their x, y and area (n, 3)."""
    band = ((way >= level) & (way < level + 2)).astype(np.uint8)
    _, _, stats, centres = cv2.connectedComponentsWithStats(band)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return np.column_stack([centres[1:], areas])[areas >= 3]


def _axis(way: Distance) -> NDArray[np.float64]:
    """The direction x, y (2,) from the proximal end, from which ways are counted, to the distal one; of length 1."""
    inside = way >= 0
    levels = way[inside]
    rows, columns = np.nonzero(inside)
    counts = np.bincount(levels).astype(np.float64)
    centres = np.stack([np.bincount(levels, weights=place) for place in (columns, rows)], axis=1) / counts[:, None]
    # A cut end is crossed from corner to corner, so the centres go astray there.
    begin = round(min(float(counts.mean()) / 2, 0.2 * len(centres)))
    centres, counts = centres[begin:], counts[begin:]
    best, error = _line(centres, counts)
    for cut in range(round((1 - _SEGMENT) * len(centres)), len(centres) // 8, -2):
        near, near_error = _line(centres[:cut], counts[:cut])
        far, far_error = _line(centres[cut:], counts[cut:])
        bend = math.degrees(math.acos(min(max(float(near @ far), -1), 1)))
        if bend > _BEND and near_error + far_error < error:
            best, error = far, near_error + far_error
    return best


def _line(points: Points, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The direction (2,) of the straight line nearest to points, from first to last, and the squared distances."""
    away = points - np.average(points, axis=0, weights=weights)
    (xx, xy), (_, yy) = (away * weights[:, None]).T @ away
    angle = 0.5 * math.atan2(2 * xy, xx - yy)
    direction = np.array([math.cos(angle), math.sin(angle)])
    if direction @ (points[-1] - points[0]) < 0:
        direction = -direction
    return direction, float((xx + yy) / 2 - math.hypot((xx - yy) / 2, xy))


def _thumb_is_left(image: Radiograph, angle: float) -> bool:
    """Whether, after the turn, a thumb is on the left: a digit that leaves the hand well before the others part."""
    limb = _find_limb(image, _DETAIL_SIDE)
    if limb is None:
        return False
    turn = _turn(angle, mirrored=False)[:2, :2]
    way = min(limb.ways, key=lambda way: (turn @ np.unravel_index(int(way.argmax()), way.shape)[::-1])[1])
    longest = int(way.max())
    found = _web(way, longest // 5)
    if found is None:
        return False
    level, digits = found
    sizes = [np.count_nonzero(digit & (way < level + 3)) for digit in digits]
    thumb = digits[int(np.argmin(sizes))]
    rest = _web(np.where(thumb, -1, way), level)
    beyond = (rest[0] if rest else longest) - level
    if len(digits) > 2 or beyond < _THUMB_GAP * (longest - level):
        return False
    x = [(turn @ np.argwhere(part)[:, ::-1].T)[0].mean() for part in (thumb, (way >= level) & ~thumb)]
    return bool(x[0] < x[1])


def _web(way: Distance, begin: int) -> tuple[int, list[Mask]] | None:
    """The first length of way, from ``begin`` on, beyond which a limb is in several parts, and these parts (h, w)."""
    longest = int(way.max())
    for level in range(begin, longest, 2):
        least = _FINGER * (longest - level)
        _, labels = cv2.connectedComponents((way >= level).astype(np.uint8))
        parts = [np.asarray(labels == number) for number in range(1, labels.max() + 1)]
        parts = [part for part in parts if way[part].max() - level >= max(least, 4)]
        if len(parts) > 1:
            return level, parts
    return None
