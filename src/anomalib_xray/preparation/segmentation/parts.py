"""Which parts of a mask are hands, and which of their pixels."""

from __future__ import annotations

import cv2
import numpy as np

from anomalib_xray.preparation.step import Mask

_COMPARABLE = 0.35  # of the first hand's weight that a second hand has at least


def central_parts(mask: Mask) -> Mask:
    """The hands of a mask: its largest and most central part, and another one that comes close to it.

    A part weighs its area times exp(-3 d²), with d the distance of its centroid from the picture's centre, in widths
    and heights.

    Args:
        mask: (h, w).

    Returns:
        (h, w).
    """
    count, labels, stats, centroids = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return mask
    height, width = mask.shape
    away = (((centroids[1:] + 0.5) / (width, height) - 0.5) ** 2).sum(axis=1)
    weight = stats[1:, cv2.CC_STAT_AREA] * np.exp(-3 * away)
    return np.asarray(np.isin(labels, 1 + np.flatnonzero(weight >= _COMPARABLE * weight.max())))


def fill_holes(mask: Mask) -> Mask:
    """Adds the background that no path leads from to the picture's border.

    Args:
        mask: (h, w).

    Returns:
        (h, w).
    """
    around = np.pad(mask.astype(np.uint8), 1)
    cv2.floodFill(around, None, (0, 0), 2)
    return np.asarray(around[1:-1, 1:-1] != 2)
