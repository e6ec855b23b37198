"""Hands and other limbs found by the outline of the foreground, without training, as numbers on a picture plane.

A limb is a connected part of the foreground, together with parts that go on where it is interrupted. It is never cut,
whatever its bends, but for two hands that touch: their part holds two palms, places of like width with something narrow
between them, and cut there it falls into two that lie side by side. The cut is a flood from both palms, a watershed on
the distance to the background.
"""

from __future__ import annotations

from itertools import combinations
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.preparation.step import Mask

_LEAST_SHARE = 0.01  # of the picture; a smaller part of the foreground is no hand

_LIKE = 0.6  # width of the narrower palm in relation to the wider one; a thumb's root has less
_NARROW = 0.6  # width of what lies between two palms in relation to theirs; a wrist has more
_PALMS = 6  # widest places that are looked at: two palms, two forearms, and as much again

# Hands that touch lie side by side. What the same search finds at elbows, at fists and where a holder's hand grips a
# limb lies one behind the other or at an angle. Of 80 phantoms that touch, the least values were .86, .90 and 1.17.
_ALIKE = 0.6  # area of the smaller hand in relation to the larger one
_ABREAST = 0.8  # share of the longer hand's length that two hands have in common
_PARALLEL = 0.82  # least cosine of the angle between two hands, 35 degrees; phantoms have up to 17, grips any
_LONG = 1.0  # length of a hand in relation to its width

_SPECK = 0.001  # of the picture; what is smaller continues nothing
_GAP = 0.05  # of the picture's longest side that a bangle, a ring or a plate may interrupt a limb
_BROAD = 0.6  # of the slimmer part's breadth that faces the other part across such a gap; a fingertip has less
_LIMB_BREADTH = 0.35  # of the picture's longest side; forearms that lie side by side face one another for longer
_STRIP = 0.15  # of the picture's side that the rest of a strip along it is wide at most; a limb reaches further in
_ALONG = 0.6  # of its length that such a rest lies at the border, or nearly so
_NEAR = 0.02  # of the picture's side

Labels: TypeAlias = NDArray[np.int32]
"""A picture plane (H, W): 0 for background, 1, 2, ... for the hands."""
_PLATE = 0.92  # share of its rectangle that a picture without foreground, or an image carrier, fills; a hand does not


def find_hands(foreground: Mask, smallest: float) -> tuple[Labels, bool]:
    """The hands in a foreground (H, W), from left to right, and whether some of them touched and were cut apart.

    A part whose area is below ``smallest``, a share of the largest part's area, is not a hand.
    """
    count, parts, stats, _ = cv2.connectedComponentsWithStats(foreground.astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA]
    kept = [
        part
        for part in range(1, count)
        if areas[part] >= _SPECK * foreground.size
        and not is_plate(parts[_window(stats[part])] == part)
        and (areas[part] == areas[1:].max() or not _is_strip(parts == part))
    ]
    limbs = _joined(np.asarray(parts, np.int32), np.asarray(stats, np.int32), kept)
    largest = max((areas[limb].sum() for limb in limbs), default=0)
    labels = np.zeros(foreground.shape, np.int32)
    number, touching = 0, False
    for limb in limbs:
        area = areas[limb].sum()
        if area < max(smallest * largest, _LEAST_SHARE * foreground.size):
            continue
        if len(limb) == 1:
            window = _window(stats[limb[0]])
            hands = _separate(np.asarray(parts[window] == limb[0]), window, foreground.shape)
        else:
            window, hands = np.s_[:, :], [np.isin(parts, limb)]
        touching |= len(hands) > 1
        for hand in hands:
            number += 1
            labels[window][hand] = number
    return from_left(labels), touching


def _window(stats: NDArray[np.int32]) -> tuple[slice, slice]:
    """Rows and columns of a part's box."""
    left, top, width, height, _ = (int(value) for value in stats)
    return slice(top, top + height), slice(left, left + width)


def _joined(parts: Labels, stats: NDArray[np.int32], kept: list[int]) -> list[list[int]]:
    """The numbers of the parts (H, W) that belong to each limb: one, or several that continue one another."""
    limbs = [[part] for part in kept]
    for first, second in combinations(kept, 2):
        one, other = (next(limb for limb in limbs if part in limb) for part in (first, second))
        if one is not other and _continue(parts, stats, first, second):
            one.extend(other)
            limbs.remove(other)
    return limbs


def _continue(parts: Labels, stats: NDArray[np.int32], first: int, second: int) -> bool:
    """Whether two parts (H, W) are one limb with a gap: they face one another, nearly as broad as the slimmer one."""
    longest = max(parts.shape)
    start, other_start = (stats[part, :2] for part in (first, second))
    end, other_end = (stats[part, :2] + stats[part, 2:4] for part in (first, second))
    apart = np.maximum(start, other_start) - np.minimum(end, other_end)
    if apart.max() > _GAP * longest:
        return False
    bodies = [np.asarray(parts == part) for part in (first, second)]
    back, away = (cv2.distanceTransform(1 - body.astype(np.uint8), cv2.DIST_L2, 3) for body in bodies)
    gap = float(back[bodies[1]].min())
    if gap > _GAP * longest:
        return False
    reach = gap + 0.02 * longest
    ends = [_points(bodies[0] & (away <= reach)), _points(bodies[1] & (back <= reach))]
    across = _across(*(points.mean(axis=0) for points in ends))
    facing = min(np.ptp(points @ across) for points in ends)
    breadth = min(np.ptp(_outline(body) @ across) for body in bodies)
    return bool(_BROAD * breadth <= facing <= _LIMB_BREADTH * longest)


def _is_strip(body: Mask) -> bool:
    """Whether a part (H, W) is what remained of a bright strip along a border of the picture."""
    # Each view begins at another border.
    return any(_lines_first(view) for view in (body, body[::-1], body.T, body.T[::-1]))


def _lines_first(lines: Mask) -> bool:
    """Whether a part lies along the first lines (n, length), with a straight side there."""
    _, top, _, height = cv2.boundingRect(lines.astype(np.uint8))
    near = round(_NEAR * len(lines))
    if top > near or height > _STRIP * len(lines):
        return False
    length = np.count_nonzero(lines.any(axis=0))
    return bool(np.count_nonzero(lines[top : top + near].any(axis=0)) >= _ALONG * length and length > height)


def _parallel(first: Mask, second: Mask) -> bool:
    """Whether two parts (h, w) extend in nearly the same direction."""
    axes = [np.linalg.eigh(np.cov(_outline(part).T))[1][:, 1] for part in (first, second)]
    return bool(abs(axes[0] @ axes[1]) >= _PARALLEL)


def _across(start: NDArray[np.float32], end: NDArray[np.float32]) -> NDArray[np.float32]:
    """The direction (2,) at right angles to the way between two places (2,)."""
    x, y = end - start
    return np.asarray(np.array([-y, x]) / max(float(np.hypot(x, y)), 1e-6), np.float32)


def _points(part: Mask) -> NDArray[np.float32]:
    """The pixels (n, 2) of a part as x and y."""
    return np.asarray(np.argwhere(part)[:, ::-1], np.float32)


def _outline(part: Mask) -> NDArray[np.float32]:
    """The pixels (n, 2) on the outline of a part as x and y."""
    outlines, _ = cv2.findContours(part.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(np.concatenate(outlines).reshape(-1, 2), np.float32)


def _separate(body: Mask, window: tuple[slice, slice], picture: tuple[int, ...]) -> list[Mask]:
    """The hands (h, w) in a connected part of a foreground: one, or two that lie side by side and touch.

    ``window`` is the part's place in the picture, which has the shape ``picture``.
    """
    # The picture's edge counts as background: else forearms that leave the picture side by side were the widest place.
    framed = np.pad(body.astype(np.uint8), 1)
    depth = np.asarray(cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1], np.float32)
    palms = _two_palms(depth)
    if palms is None:
        return [body]
    first, second = _flood(body, depth, palms)
    if not _abreast(first, second, picture):
        return [body]
    # Forearms that leave the picture side by side may join broadly; else it is the bend of an elbow.
    x, y = palms[1]
    narrow = _parting_level(depth, palms) < _NARROW * depth[y, x]
    if (narrow and _parallel(first, second)) or _ends_at_border(first, second, window, picture):
        return [first, second]
    return [body]


def _ends_at_border(first: Mask, second: Mask, window: tuple[slice, slice], picture: tuple[int, ...]) -> bool:
    """Whether the seam of two parts (h, w) runs to the picture's border."""
    seam = (cv2.dilate(first.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & second
    return any(
        (side.start == 0 and bool(lines[0].any())) or (side.stop == length and bool(lines[-1].any()))
        for side, length, lines in zip(window, picture, (seam, seam.T), strict=True)
    )


def _abreast(first: Mask, second: Mask, picture: tuple[int, ...]) -> bool:
    """Whether two parts (h, w) lie side by side, end in the picture and are alike, as hands that touch are."""
    if min(first.sum(), second.sum()) < _ALIKE * max(first.sum(), second.sum()):
        return False
    outlines = _outline(first), _outline(second)
    if any((np.ptp(outline, axis=0) + 1 >= picture[::-1]).any() for outline in outlines):
        return False  # A hand ends in the picture; a strip of the plate crosses it.
    along = _across(*(outline.mean(axis=0) for outline in outlines))
    aside = np.array([along[1], -along[0]], np.float32)
    start, end = (np.array([edge(outline @ along) for outline in outlines]) for edge in (np.min, np.max))
    widths = np.array([np.ptp(outline @ aside) for outline in outlines])
    common, lengths = end.min() - start.max(), end - start
    return bool(common >= _ABREAST * lengths.max() and (lengths >= _LONG * widths).all())


def _two_palms(depth: NDArray[np.float32]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Two places (x, y) of like depth with a narrow place on the straight way between them, the deepest such pair."""
    places = _widest_places(depth)
    for second in range(1, len(places)):
        for first in range(second):
            between = _least_between(depth, places[first], places[second])
            x, y = places[second]
            if between < _NARROW * depth[y, x]:
                return places[first], places[second]
    return None


def _widest_places(depth: NDArray[np.float32]) -> list[tuple[int, int]]:
    """Centres (x, y) of the largest discs inside the body that do not overlap, the largest first."""
    rest = depth.copy()
    places: list[tuple[int, int]] = []
    while len(places) < _PALMS:
        _, deepest, _, place = cv2.minMaxLoc(rest)
        if deepest < _LIKE * depth.max():
            break
        places.append((int(place[0]), int(place[1])))
        cv2.circle(rest, place, round(deepest), 0.0, cv2.FILLED)
    return places


def _least_between(depth: NDArray[np.float32], first: tuple[int, int], second: tuple[int, int]) -> float:
    """The least depth on the straight way between two places (x, y)."""
    steps = max(abs(first[0] - second[0]), abs(first[1] - second[1])) + 1
    columns, rows = (np.rint(np.linspace(*ends, steps)).astype(int) for ends in zip(first, second, strict=True))
    return float(depth[rows, columns].min())


def _flood(body: Mask, depth: NDArray[np.float32], palms: tuple[tuple[int, int], tuple[int, int]]) -> list[Mask]:
    """Both parts (H, W) of a body that water from two palms reaches first."""
    second = palms[1]
    narrowest = float(depth[second[1], second[0]])
    level = _parting_level(depth, palms)
    if level < _NARROW * narrowest:
        # Joined by something narrow, such as thumbs: the cut belongs there, however far that is from either palm.
        _, labels = cv2.connectedComponents((depth > level).astype(np.uint8))
        seeds = [np.asarray(labels == labels[y, x]) for x, y in palms]
    else:
        # Joined by forearms: these are cut halfway.
        discs = [np.zeros(body.shape, np.uint8) for _ in palms]
        for disc, palm in zip(discs, palms, strict=True):
            cv2.circle(disc, palm, round(0.9 * narrowest), 1, cv2.FILLED)
        seeds = [np.asarray(disc > 0) for disc in discs]
    markers = np.zeros(body.shape, np.int32)
    for number, seed in enumerate(seeds, 1):
        markers[seed] = number
    # OpenCV floods through equal grey levels first, so through the whole body before the background. It neither steps
    # diagonally, hence the cross, nor onto the edge of the plane, hence the frame.
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    ground = cv2.dilate(np.pad(body.astype(np.uint8), 1), cross)
    plane = cv2.merge([(1 - ground) * np.uint8(255)] * 3)
    flooded = cv2.watershed(plane, np.pad(markers, 1))[1:-1, 1:-1]
    return [np.asarray(body & (flooded != 2)), np.asarray(body & (flooded == 2))]


def _parting_level(depth: NDArray[np.float32], palms: tuple[tuple[int, int], tuple[int, int]]) -> float:
    """The depth above which two places (x, y) are no longer connected; found to half a pixel."""
    (first_x, first_y), (second_x, second_y) = palms
    low, high = 0.0, float(min(depth[first_y, first_x], depth[second_y, second_x]))
    while high - low > 0.5:
        level = (low + high) / 2
        _, labels = cv2.connectedComponents((depth > level).astype(np.uint8))
        if labels[first_y, first_x] == labels[second_y, second_x]:
            low = level
        else:
            high = level
    return high


def from_left(labels: Labels) -> Labels:
    """Number the hands from left to right, without missing numbers, by the mean of their columns."""
    highest = int(labels.max(initial=0))
    pixels = {number: (labels == number).sum(axis=0) for number in range(1, highest + 1)}
    columns = np.arange(labels.shape[1])
    middles = {number: float(np.average(columns, weights=count)) for number, count in pixels.items() if count.any()}
    order = np.zeros(highest + 1, np.int32)
    for place, number in enumerate(sorted(middles, key=middles.__getitem__), 1):
        order[number] = place
    return order[labels]


def is_plate(body: Mask) -> bool:
    """Whether a connected part (H, W) of a foreground is a rectangle, such as an image carrier, or has no area."""
    contours, _ = cv2.findContours(body.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    _, sides, _ = cv2.minAreaRect(contours[0])
    return cv2.contourArea(contours[0]) >= _PLATE * sides[0] * sides[1]
