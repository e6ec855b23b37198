"""Hands as numbers on a picture plane, which both ways of finding them give."""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.preparation.step import Mask

Labels: TypeAlias = NDArray[np.int32]
"""A picture plane (H, W): 0 for background, 1, 2, ... for the hands."""

_PLATE = 0.92  # share of its rectangle that a picture without foreground, or an image carrier, fills; a hand does not


def from_left(labels: Labels) -> Labels:
    """Numbers the hands from left to right, by the mean of their columns.

    Args:
        labels: (H, W), in any order; numbers may be missing.

    Returns:
        (H, W), without missing numbers.
    """
    highest = int(labels.max(initial=0))
    pixels = {number: (labels == number).sum(axis=0) for number in range(1, highest + 1)}
    columns = np.arange(labels.shape[1])
    middles = {number: float(np.average(columns, weights=count)) for number, count in pixels.items() if count.any()}
    order = np.zeros(highest + 1, np.int32)
    for place, number in enumerate(sorted(middles, key=middles.__getitem__), 1):
        order[number] = place
    return order[labels]


def is_plate(body: Mask) -> bool:
    """Whether a connected part of a foreground has the outline of a rectangle, or no area.

    Args:
        body: (H, W), one connected part.

    Returns:
        True for the whole picture, an image carrier, or a line; False for a hand.
    """
    contours, _ = cv2.findContours(body.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    _, sides, _ = cv2.minAreaRect(contours[0])
    return cv2.contourArea(contours[0]) >= _PLATE * sides[0] * sides[1]
