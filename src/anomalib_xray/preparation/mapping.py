"""Between an original radiograph and its prepared picture: anomaly masks go there, heat maps come back."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.preparation.step import Mask, Matrix


def to_prepared(mask: Mask, matrix: Matrix, shape: tuple[int, int]) -> Mask:
    """Moves a mask drawn on the original to the prepared picture.

    Args:
        mask: (H, W) of the original, boolean.
        matrix: (3, 3), leads from the original's pixel coordinates to the prepared picture's.
        shape: Height and width of the prepared picture.

    Returns:
        Boolean, of the given shape.
    """
    grey = mask.astype(np.uint8) * np.uint8(255)
    # Interpolated and halved, so that thin masks survive a reduction better than with the nearest pixel.
    moved = cv2.warpPerspective(grey, matrix, (shape[1], shape[0]), flags=cv2.INTER_LINEAR)
    return np.asarray(moved >= 128)


def to_original(heat_map: NDArray[np.float32], matrix: Matrix, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Moves a heat map of the prepared picture back onto the original.

    Args:
        heat_map: (h, w), of the prepared picture; any finite values.
        matrix: (3, 3), leads from the original's pixel coordinates to the prepared picture's.
        shape: Height and width of the original.

    Returns:
        (H, W), float32; 0 where the original was cropped away.
    """
    back = cv2.warpPerspective(
        heat_map.astype(np.float32),
        matrix,
        (shape[1], shape[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
    return np.asarray(back, np.float32)


def merged(
    heat_maps: Sequence[NDArray[np.float32]], matrices: Sequence[Matrix], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Moves the heat maps of all parts of an original back onto it; where parts overlap, the higher value stands.

    Args:
        heat_maps: One a part.
        matrices: One a part, as of :func:`to_original`.
        shape: Height and width of the original.

    Returns:
        (H, W), float32.
    """
    moved = [to_original(heat_map, matrix, shape) for heat_map, matrix in zip(heat_maps, matrices, strict=True)]
    return np.asarray(np.maximum.reduce(moved), np.float32)
