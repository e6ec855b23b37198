"""The step that turns a limb upright: its axis vertical, its distal end, the fingers, up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

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

_SIDE = 64  # longest side of the view in which the ends are compared; fingers are 2 or 3 pixels wide there
_DETAIL_SIDE = 160  # the same for bones, and for the web of the thumb, which is narrow
_LEAST_PIXELS = 40  # of a view; a smaller limb has no axis
_LONG = 2.0  # length of a limb in relation to its mean width; a disc has 1.3, a short hand 2.4
_BANDS = 20  # pieces of a limb along its way, of which each end has half
_SURE = 0.67  # confidence from which on a picture is turned: twice as likely right as wrong
_STRAIGHT = 2.0  # degrees below which a limb counts as upright: the axis is not known better, and turning blurs

_TAPER, _EXIT, _SPLIT, _BONES = 4.0, 2.0, 1.5, 5.0  # weights of the signs of a distal end, in logits
_STEEP = 0.4  # taper beyond which nothing is learnt: a helper's hand or a trunk may hang on the thinner end
_TIP = 0.3  # share of a limb's way, from its end, on which fingers are counted
_PIECE = 3  # pixels of a finger on two steps of the way
_ENTRY = 0.25  # share of a limb's way, from its end, on which it may leave the picture
_REGION = 0.35  # share of a limb's way, from its end, on which its bones are compared
_FLOOR = 8  # grey levels added to the brightness that contrasts refer to, or noise in the dark would count
_METAL = 0.3  # contrast above which an edge counts no more: rings, plates and wires

_BEND = 35.0  # degrees from which on the parts of a limb beside a bend have axes of their own
_SEGMENT = 0.5  # share of the centre line that the distal part has at least: forearm and hand, never the hand alone
_SLENDER = 4.0  # length of the distal part in relation to its depth from which on its axis is known; a palm has less
_ROUNDS = 2  # of slicing a limb across its axis and laying the axis through the slices

_THUMB_LEAD = 0.2  # share of the height from a thumb to the fingertips by which its web and tip together are lower
_SIDEWAYS = 1.6  # reach of a palm aside, in relation to its depth, from which on it has a thumb there
_FINGER = 0.08  # share of that height by which a finger reaches beyond its web at least

Points: TypeAlias = NDArray[np.float64]
"""Points x, y (n, 2)."""
Distance: TypeAlias = NDArray[np.int32]
"""The way of each pixel (h, w) from a limb's end within the limb; -1 outside of it."""


@dataclass(frozen=True)
class _Limb:
    """A limb (h, w) in a view, and the ways of its pixels from its two ends."""

    mask: Mask
    ways: tuple[Distance, Distance]

    def along(self) -> NDArray[np.float64]:
        """The share of the way from the first end to the second one at each pixel (h, w), from 0 to below 1."""
        length = max(float(self.ways[0].max()), 1.0)
        return np.clip((self.ways[0] - self.ways[1] + length) / (2 * length), 0, 1 - 1e-6)

    def on_frame(self) -> Mask:
        """The pixels (h, w) of the limb on the picture's frame."""
        inner = np.zeros_like(self.mask)
        inner[1:-1, 1:-1] = True
        return np.asarray(self.mask & ~inner)


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
        limb = _find_limb(image)
        if limb is None:
            return Plan(flags=(UNSURE,))
        distal, confidence = _distal_end(limb, small_view(image, _DETAIL_SIDE))
        if confidence < _SURE:
            return Plan(flags=(UNSURE,))
        x, y = _axis(limb, 1 - distal)
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
        weighted, covered = (
            cv2.warpAffine(plane.astype(np.float32), matrix, (width, height), flags=cv2.INTER_LINEAR)
            for plane in (image, image > 0)
        )
        return blended(weighted, covered, image.dtype.type)

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
        moved = np.stack([np.concatenate(ends), np.tile(rows, 2)], axis=1) @ turn[:2, :2].T
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


def _largest_part(image: Radiograph, side: int) -> Mask:
    """The largest connected part of the foreground in a view (h, w) of the given longest side."""
    shown = reduced((image > 0).astype(np.uint8) * np.uint8(255), side) > 127
    _, labels, stats, _ = cv2.connectedComponentsWithStats(shown.astype(np.uint8))
    return np.asarray(shown & (labels == 1 + int(np.append(stats[1:, cv2.CC_STAT_AREA], 0).argmax())))


def _find_limb(image: Radiograph) -> _Limb | None:
    """The limb of a picture; None if the foreground is tiny or round."""
    mask = _largest_part(image, _SIDE)
    places = np.argwhere(mask)
    if len(places) < _LEAST_PIXELS:
        return None
    # What is farthest from the middle is an end of a limb; what is farthest from there, by way, is the other one.
    first = places[int(((places - places.mean(axis=0)) ** 2).sum(axis=1).argmax())]
    way = _ways(mask, tuple(first))
    if way.max() ** 2 < _LONG * len(places):
        return None
    return _Limb(mask, (way, _ways(mask, np.unravel_index(int(way.argmax()), way.shape))))


def _ways(mask: Mask, start: tuple[np.intp, ...]) -> Distance:
    """The length of the way from a pixel (y, x) to each pixel of a connected mask (h, w), in pixels."""
    square, cross = (cv2.getStructuringElement(shape, (3, 3)) for shape in (cv2.MORPH_RECT, cv2.MORPH_CROSS))
    inside = mask.astype(np.uint8)
    reached = np.zeros_like(inside)
    reached[start] = 1
    # Grown by a square and a cross in turn, which makes octagons, nearly circles.
    held, count, steps = np.zeros(mask.shape, np.uint16), 1, 0
    while True:
        reached = np.asarray(cv2.bitwise_and(cv2.dilate(reached, cross if steps % 2 else square), inside), np.uint8)
        if (grown := cv2.countNonZero(reached)) == count and not steps % 2:
            break  # a cross may not reach on where a square does
        cv2.add(held, reached, held, dtype=cv2.CV_16U)
        count, steps = grown, steps + 1
    return np.where(mask, steps - held.astype(np.int32), -1)


def _distal_end(limb: _Limb, view: NDArray[np.uint8]) -> tuple[int, float]:
    """Which of a limb's ends is the distal one, 0 or 1, and the confidence of that, .5 to 1.

    ``view`` (H, W) shows the limb, larger than its mask (h, w).
    """
    inside = limb.mask
    length = max(float(limb.ways[0].max()), 1.0)
    plane = limb.along()
    along = plane[inside]
    width = np.bincount((along * _BANDS).astype(int), minlength=_BANDS) + 1.0
    # The outermost bands are corners or fingertips.
    taper = math.log(width[1 : _BANDS // 2 - 3].sum() / width[_BANDS // 2 + 3 : -1].sum())
    taper = min(max(taper, -_STEEP), _STEEP)
    on_frame = limb.on_frame()[inside]
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
    counts = []
    for level in range(int((1 - _TIP) * longest), longest - 1, 2):
        _, _, stats, _ = cv2.connectedComponentsWithStats(((way >= level) & (way < level + 2)).astype(np.uint8))
        counts.append(np.count_nonzero(stats[1:, cv2.CC_STAT_AREA] >= _PIECE))
    return min(float(np.mean(counts)) - 1, 2.0) if counts else 0.0


def _axis(limb: _Limb, proximal: int) -> NDArray[np.float64]:
    """The direction x, y (2,), of length 1, from a limb's proximal end, 0 or 1, to the distal one."""
    inside = limb.mask
    framed = np.pad(inside.astype(np.uint8), 1)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1][inside].astype(np.float64)
    places = np.argwhere(inside)[:, ::-1].astype(np.float64)
    levels = limb.ways[proximal][inside]
    direction, begin = _last_segment(*_centres(places, levels, depth)[:2])
    beyond = levels >= begin
    places, depth, leaving = places[beyond], depth[beyond], limb.on_frame()[inside][beyond]
    for _ in range(_ROUNDS):
        along = places @ direction
        slices = np.rint(along - along.min()).astype(int)
        centres, _, numbers = _centres(places, slices, depth)
        # Where a limb leaves the picture it is cut aslant, which pulls the centres aside.
        whole = ~np.isin(numbers, slices[leaving])
        kept = centres[whole] if 2 * np.count_nonzero(whole) > len(whole) else centres
        line, _ = _line(kept, np.ones(len(kept)))
        direction = line if line @ direction > 0 else -line
    return direction


def _centres(
    places: Points, numbers: NDArray[np.integer], depth: NDArray[np.float64]
) -> tuple[Points, NDArray[np.float64], NDArray[np.int64]]:
    """The centres (k, 2) of pixels with the same number, their mean depths (k,), and these numbers (k,).

    Pixels count by their squared depth in the limb, so that a thumb aside hardly moves the centre of a hand.
    """
    weights = depth**2
    totals = np.bincount(numbers, weights=weights)
    present = np.flatnonzero(totals)
    sums = [np.bincount(numbers, weights=values * weights)[present] for values in (*places.T, depth)]
    x, y, mean = np.array(sums) / totals[present]
    return np.stack([x, y], axis=1), mean, present


def _last_segment(centres: Points, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """The direction (2,) of a centre line (n, 2) beyond its last strong bend, and its first point's number."""
    # A limb's end is crossed from corner to corner, so the centres go astray there.
    skipped = round(min(2 * float(weights.mean()), 0.2 * len(centres)))
    centres, weights = centres[skipped:], weights[skipped:]
    best, error = _line(centres, weights)
    begin = 0
    for cut in range(round((1 - _SEGMENT) * len(centres)), len(centres) // 8, -3):
        near, near_error = _line(centres[:cut], weights[:cut])
        far, far_error = _line(centres[cut:], weights[cut:])
        bend = math.degrees(math.acos(min(max(float(near @ far), -1), 1)))
        slender = len(centres) - cut > _SLENDER * weights[cut:].max()
        if bend > _BEND and slender and near_error + far_error < error:
            best, error, begin = far, near_error + far_error, cut + skipped
    return best, begin


def _line(points: Points, weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The direction (2,) of the straight line nearest to points, from first to last, and the squared distances."""
    away = points - weights @ points / weights.sum()
    (xx, xy), (_, yy) = (away.T * weights) @ away
    angle = 0.5 * math.atan2(2 * xy, xx - yy)
    direction = np.array([math.cos(angle), math.sin(angle)])
    if direction @ (points[-1] - points[0]) < 0:
        direction = -direction
    return direction, float((xx + yy) / 2 - math.hypot((xx - yy) / 2, xy))


def _thumb_is_left(image: Radiograph, angle: float) -> bool:
    """Whether, after the turn, a thumb is on the left: a digit that leaves the hand and ends below the others."""
    mask = _largest_part(image, _DETAIL_SIDE)
    places = np.argwhere(mask)
    across, down = _turn(angle, mirrored=False)[:2, :2] @ places[:, ::-1].T
    height = np.full(mask.shape, -1)
    height[mask] = np.rint(down.max() - down)
    highest = int(height.max())
    level, digits = _web(height, highest // 5)
    sizes = [np.count_nonzero(digit & (height < level + 3)) for digit in digits]
    if len(digits) != 2 or sizes[0] == sizes[1]:
        return False
    thumb = digits[int(np.argmin(sizes))]
    later, fingers = _web(np.where(thumb, -1, height), level)
    left = [float(across[digit[mask]].mean()) for digit in (thumb, *fingers)]
    # The finger on the other side of the hand.
    other = fingers[int(np.argmax(np.abs(np.array(left[1:]) - left[0])))]
    lead = (later - level) + int(height[other].max() - height[thumb].max())
    if left[0] > min(left[1:]) or lead < _THUMB_LEAD * (highest - level):
        return False
    # A thumb that points sideways parts nowhere, so the little finger would be taken for it.
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1][mask]
    palm = (height[mask] < level) & (height[mask] >= 2 * level - highest)
    middle = int(np.argmax(np.where(palm, depth, 0)))
    return bool(across[palm].max(initial=-np.inf) - across[middle] < _SIDEWAYS * depth[middle])


def _web(height: Distance, begin: int) -> tuple[int, list[Mask]]:
    """The lowest height, from ``begin`` on, above which a hand is in several parts, and these parts (h, w).

    If there is none, the highest point and what is there.
    """
    highest = int(height.max())
    for level in range(begin, highest, 2):
        _, labels = cv2.connectedComponents((height >= level).astype(np.uint8))
        parts = [np.asarray(labels == number) for number in range(1, labels.max() + 1)]
        parts = [part for part in parts if height[part].max() - level >= max(_FINGER * (highest - level), 4)]
        if len(parts) > 1:
            return level, parts
    return highest, [np.asarray(height == highest)]
