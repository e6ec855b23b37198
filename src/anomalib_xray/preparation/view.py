"""Smaller and shallower views of a radiograph for steps that look at it, and their detail."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.io.read import Radiograph
from anomalib_xray.preparation.step import Mask

VIEW_SIDE = 512
"""Longest side of a view in pixels: that of MURA's pictures, at which the steps were tuned."""


def to_8_bit(image: Radiograph) -> NDArray[np.uint8]:
    """A radiograph with 256 grey levels: one of 16 bit is scaled so that its maximum becomes 255.

    Pixels above 0 stay at least 1.
    """
    if image.dtype == np.uint8:
        return cast("NDArray[np.uint8]", image)
    brightest = max(int(image.max(initial=0)), 1)
    # Looked up level by level: large pictures have far more pixels than levels.
    levels = np.minimum(np.arange(2**16), brightest)
    scaled = np.rint(levels.astype(np.float32) * np.float32(255 / brightest)).astype(np.uint8)
    table = np.where(levels > 0, np.maximum(scaled, 1), 0).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table[np.newaxis]), np.uint8)


def small_view(image: Radiograph, longest_side: int = VIEW_SIDE) -> NDArray[np.uint8]:
    """An 8-bit view (h, w) of which no side is longer than given; a smaller picture keeps its size."""
    return cast("NDArray[np.uint8]", reduced(to_8_bit(image), longest_side))


def reduced(plane: NDArray[Any], longest_side: int) -> NDArray[Any]:
    """A plane (h, w) of which no side is longer than given, each pixel a mean; a smaller plane itself.

    A large plane is halved first, which is ten times as fast; its last odd row and column are left out then.
    """
    scale = longest_side / max(plane.shape)
    if scale >= 1:
        return plane
    size = (max(round(plane.shape[1] * scale), 1), max(round(plane.shape[0] * scale), 1))
    while max(plane.shape) >= 2 * longest_side and min(plane.shape) >= 2:
        height, width = plane.shape[0] // 2, plane.shape[1] // 2
        even = np.ascontiguousarray(plane[: 2 * height, : 2 * width])
        plane = np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), plane.dtype)
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), plane.dtype)


def full_mask(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """A mask that was found in a view, in the size of the picture; the outline of a larger one is smooth."""
    if mask.shape == tuple(shape):
        return mask
    grey: NDArray[Any] = mask.astype(np.uint8) * np.uint8(254)
    if max(shape) > 1.5 * max(mask.shape):
        grey = cv2.GaussianBlur(grey, (0, 0), 1)  # or each pixel of the view would be a stair
    return np.asarray(cv2.resize(grey, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR) >= 127)


def scaling(before: tuple[int, ...], after: tuple[int, ...]) -> NDArray[np.float64]:
    """The matrix (3, 3) of a change of size, with whole coordinates at pixel centres."""
    x, y = after[1] / before[1], after[0] / before[0]
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def blended(weighted: NDArray[Any], covered: NDArray[Any], dtype: type[np.uint8 | np.uint16]) -> Radiograph:
    """A moved picture (H, W) whose rim does not fade: background has no say in the grey levels beside it.

    Args:
        weighted: Grey levels (H, W), interpolated with the background as 0.
        covered: Share of foreground in each pixel (H, W), interpolated likewise; at most half of it is background.
        dtype: Depth of the picture.
    """
    foreground = covered > 0.5
    grey = np.rint(weighted / np.where(foreground, covered, 1))
    levels = np.where(foreground, np.clip(grey, 1, np.iinfo(dtype).max), 0)
    return cast("Radiograph", levels.astype(dtype))


def keep_background(image: Radiograph, before: Radiograph) -> Radiograph:
    """Restore the promise about the background after a filter: 0 stays 0 and nothing else becomes 0."""
    return cast("Radiograph", np.where(before > 0, np.maximum(image, 1), 0).astype(image.dtype))


def detail(view: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The detail around each pixel (H, W): the mean difference from the picture when blurred by a pixel.

    The highest twentieth is cut off, or the outlines of lead markers would outweigh bones.
    """
    grey = view.astype(np.float32)
    around = cv2.GaussianBlur(np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1)), (0, 0), 2)
    return np.asarray(np.minimum(around, np.percentile(around, 95)), np.float32)
