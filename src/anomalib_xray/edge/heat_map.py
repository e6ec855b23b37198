"""Heat maps of a radiograph's views, brought together on the original."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.preparation.mapping import to_original
from anomalib_xray.preparation.pipeline import Prepared
from anomalib_xray.preparation.step import Mask, Matrix


def on_original(
    heat_maps: Sequence[NDArray[np.float32] | None], views: Sequence[Prepared], shape: tuple[int, int]
) -> NDArray[np.float32] | None:
    """Moves the heat maps of all views to where their pixels came from.

    Args:
        heat_maps: One a view, of the size of its picture; any finite values.
        views: The pictures, with the matrices that led to them; at least one.
        shape: Height and width of the original.

    Returns:
        (H, W): 0 where no view lies, the largest value where several do; ``None`` if a map is missing.
    """
    joined: NDArray[np.float32] | None = None
    covered = np.zeros(shape, np.bool_)
    for heat_map, view in zip(heat_maps, views, strict=True):
        if heat_map is None:
            return None
        moved = _moved(heat_map, view.matrix, shape)
        inside = _inside(view, shape) if len(views) > 1 else covered
        if joined is None:
            joined = moved
        else:
            # Maps may be negative, and the 0 outside of a view is no value of its map.
            highest = np.where(covered, np.maximum(joined, moved), moved)
            joined = np.where(inside, highest, joined)
        covered |= inside
    return joined


def outline_of(view: Prepared) -> NDArray[np.float64]:
    """Corners of a view on the original.

    Args:
        view: The prepared picture.

    Returns:
        (4, 2), x and y of the outer corners in pixels of the original, whose pixel centres have whole coordinates; in
        the order top left, top right, bottom right, bottom left of the view.
    """
    height, width = view.image.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64) - 0.5
    return np.asarray(cv2.perspectiveTransform(corners[np.newaxis], np.linalg.inv(view.matrix))[0], np.float64)


def _moved(heat_map: NDArray[np.float32], matrix: Matrix, shape: tuple[int, int]) -> NDArray[np.float32]:
    """The map on the original; without any arithmetic where it lies there already."""
    if heat_map.shape == shape and np.array_equal(matrix, np.eye(3)):
        return heat_map
    return to_original(heat_map, matrix, shape)


def _inside(view: Prepared, shape: tuple[int, int]) -> Mask:
    """Where a view lies on the original, (H, W)."""
    everything = np.ones(view.image.shape, np.uint8)
    size, flags = (shape[1], shape[0]), cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpPerspective(everything, view.matrix, size, flags=flags) > 0)
