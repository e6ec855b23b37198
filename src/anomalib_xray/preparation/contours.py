"""Hands found by the outline of the foreground, without training, and hands as numbers on a picture plane.

A hand is a connected part of the foreground. If two hands touch, the part holds two palms: places of like width with
something narrow between them. It is cut by flooding it from both palms, a watershed on the distance to the background.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.preparation.step import Mask

_LEAST_SHARE = 0.01  # of the picture; a smaller part of the foreground is no hand

_LIKE = 0.6  # width of the narrower palm in relation to the wider one; a thumb's root has less
_NARROW = 0.6  # width of what lies between two palms in relation to theirs; a wrist has more
_CUTS = 2  # one after the other, which makes at most four hands of one part; what has more palms is no hands
_PALMS = 6  # widest places that are looked at: two palms, two forearms, and as much again

Labels: TypeAlias = NDArray[np.int32]
"""A picture plane (H, W): 0 for background, 1, 2, ... for the hands."""
_PLATE = 0.92  # share of its rectangle that a picture without foreground, or an image carrier, fills; a hand does not


def find_hands(foreground: Mask, smallest: float) -> tuple[Labels, bool]:
    """The hands in a foreground (H, W), from left to right, and whether some of them touched and were cut apart.

    A part whose area is below ``smallest``, a share of the largest part's area, is not a hand.
    """
    _, parts, stats, _ = cv2.connectedComponentsWithStats(foreground.astype(np.uint8))
    least = max(smallest * stats[1:, cv2.CC_STAT_AREA].max(initial=0), _LEAST_SHARE * foreground.size)
    labels = np.zeros(foreground.shape, np.int32)
    count, touching = 0, False
    for part in range(1, len(stats)):
        left, top, width, height, area = stats[part]
        if area < least:
            continue
        window = slice(top, top + height), slice(left, left + width)
        body = np.asarray(parts[window] == part)
        if is_plate(body):
            continue
        hands = _separate(body)
        touching |= len(hands) > 1
        for hand in hands:
            count += 1
            labels[window][hand] = count
    return from_left(labels), touching


def _separate(body: Mask, cuts: int = _CUTS) -> list[Mask]:
    """The hands (H, W) in a connected part of the foreground; mostly one."""
    # The picture's edge counts as background: else forearms that leave the picture side by side were the widest place.
    framed = np.pad(body.astype(np.uint8), 1)
    depth = np.asarray(cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1], np.float32)
    palms = _two_palms(depth) if cuts else None
    if palms is None:
        return [body]
    return [hand for part in _flood(body, depth, palms) for hand in _separate(part, cuts - 1)]


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
