"""Which part of the foreground belongs to which box of a detector."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.preparation.localization.labels import Labels, from_left, is_plate
from anomalib_xray.preparation.step import Mask

_HELD = 0.2  # share of a part's pixels that a box must hold for the part to be, at least in part, its hand


def divide(foreground: Mask, boxes: Sequence[NDArray[np.float64]]) -> tuple[Labels, bool]:
    """Gives the foreground to the boxes.

    A box of a detector is rough. So a connected part of the foreground that only one box holds belongs to it as a
    whole, fingertips outside the box included; a part that several boxes hold is divided among them; a part that no box
    holds is dropped. A part that is no outline of a hand but a plate, or the whole picture, is cut at the boxes.

    Args:
        foreground: Where the picture is not background, (H, W).
        boxes: Corners x0, y0, x1, y1 of each, the second one outside, (4,).

    Returns:
        The hands, from left to right, (H, W), and whether some of them touched and were cut apart.
    """
    labels = np.zeros(foreground.shape, np.int32)
    touching = False
    if not boxes:
        return labels, touching
    remoteness = np.stack([_remoteness(foreground.shape, box) for box in boxes])
    count, parts = cv2.connectedComponents(foreground.astype(np.uint8))
    held = np.stack([np.bincount(parts[inside], minlength=count) for inside in remoteness <= 1])
    holds = held[:, 1:] >= _HELD * np.bincount(parts.ravel(), minlength=count)[1:]
    for part in np.flatnonzero(held[:, 1:].any(axis=0)) + 1:
        body = np.asarray(parts == part)
        plate = is_plate(body)
        holders = np.flatnonzero(held[:, part] if plate else holds[:, part - 1])
        if holders.size == 0:
            continue
        nearest = holders[remoteness[holders].argmin(axis=0)] + 1
        labels[body] = np.where(remoteness.min(axis=0) <= 1, nearest, 0)[body] if plate else nearest[body]
        touching |= holders.size > 1 and not plate
    return from_left(labels), touching


def _remoteness(shape: tuple[int, ...], box: NDArray[np.float64]) -> NDArray[np.float32]:
    """How far each pixel (H, W) is from a box's centre: 0 there, 1 at the box's edge."""
    x0, y0, x1, y1 = box
    x = np.abs(np.arange(shape[1]) - (x0 + x1 - 1) / 2) / max((x1 - x0) / 2, 0.5)
    y = np.abs(np.arange(shape[0]) - (y0 + y1 - 1) / 2) / max((y1 - y0) / 2, 0.5)
    return np.asarray(np.maximum(x[None, :], y[:, None]), np.float32)
