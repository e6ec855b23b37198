"""Markers as small bright things beside the body: no weights, no optional package."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.preparation.markers.detector import Quad, rectangle
from anomalib_xray.preparation.step import Mask

# Lengths are shares of the view's longest side.
_STROKE = 0.07  # what is narrower in one direction stands out
_SMALLEST = 0.012
_LONGEST = 0.22  # letters often run into each other
_GAP = 0.03  # between the letters of one marker
_LONGEST_GROUP = 0.30
_AROUND = 0.5  # margin of the line around a group, as a share of its shorter side
_LEAST_CONTRAST = 14
_LEAST_OF_BODY = 0.35  # least contrast as a share of the body's brightness
_DARK = 0.5  # brightness around a marker, from 0 as the darkest there to 1 as the letters
_SLENDEREST = 6  # longer side by shorter side; pieces of a film's frame are more slender than any letter


class BrightDetector:
    """Finds lead letters as what is narrow, about as bright as bone, compact, and not part of the body."""

    @property
    def identity(self) -> str:
        """The rules' name and version."""
        return "bright 1"

    def detect(self, view: NDArray[np.uint8], body: Mask) -> Sequence[Quad]:
        """Draws a box around each group of small bright things.

        Args:
            view: (h, w), bones bright.
            body: (h, w); what lies in it or touches it is no marker.

        Returns:
            The boxes.
        """
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
            if np.ptp(quad, axis=0).max() <= _LONGEST_GROUP * side and _stands_alone(quad, marker, view):
                quads.append(quad)
        return quads


def _letters(view: NDArray[np.uint8], body: Mask) -> Mask:
    """The bright things (h, w) that have a letter's size and stand free."""
    side = max(view.shape)
    stroke = 2 * round(_STROKE * side / 2) + 1
    hat = cv2.morphologyEx(view, cv2.MORPH_TOPHAT, np.ones((stroke, stroke), np.uint8))
    # Lead lets less through than bone; in a dim picture both are dim.
    level = float(np.median(view[body])) if body.any() else 0.0
    bright = (hat > max(_LEAST_CONTRAST, _LEAST_OF_BODY * level)) & (view >= level)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(bright.astype(np.uint8))
    sides = np.sort(stats[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]], axis=1)
    shorter, longer = sides[:, 0], sides[:, 1]
    fitting = (longer >= _SMALLEST * side) & (longer <= _LONGEST * side) & (longer <= _SLENDEREST * shorter)
    fitting[0] = False
    fitting[labels[body]] = False
    return np.asarray(fitting[labels])


def _stands_alone(quad: Quad, marker: Mask, view: NDArray[np.uint8]) -> bool:
    """Whether it is dark around a group of letters: a line around a bone crosses the next one."""
    line = np.zeros(view.shape, np.uint8)
    cv2.polylines(line, [np.rint(rectangle(quad, _AROUND)).astype(np.int32)], True, 1)
    around = view[line > 0]
    if not around.size:
        return True
    darkest, bright = np.percentile(around, (10, 95))
    return bool(bright <= darkest + _DARK * (np.median(view[marker]) - darkest))
