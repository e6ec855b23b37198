"""A rough foreground mask for radiographs that nobody has prepared yet."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError

_FULLEST = 0.55  # share of the picture that a hand covers at most
_LARGEST_HOLE = 0.02  # share of the picture that a hole in a hand covers at most


def rough_foreground(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the hand roughly is: blurred, thresholded, largest part, holes filled.

    Otsu's threshold separates bone from the rest when the soft tissue is dim, the triangle method finds the foot of the
    background's peak; the lower one of the two keeps the soft tissue, unless nearly everything passes it. Good enough
    to paint anomalies into; it is no replacement for the segmentation step of the preparation.

    Args:
        image: Radiograph of shape (H, W), 8 bit, bones bright.

    Returns:
        Boolean mask (H, W).

    Raises:
        XrayError: If the image is not (H, W) 8 bit, or everything in it is equally bright.
    """
    if image.ndim != 2 or image.dtype != np.uint8:
        raise XrayError(f"A rough foreground needs a grey 8-bit image, not {image.dtype} of shape {image.shape}.")
    if image.min() == image.max():
        raise XrayError("No foreground can be found in an image whose pixels are all equal.")
    side = max(image.shape)
    blurred = np.asarray(cv2.GaussianBlur(image, (0, 0), max(side / 200, 0.8)), np.uint8)
    bright = _bright(blurred)
    size = 2 * max(1, round(side / 120)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    # Opening also removes the bright lines that frame many films.
    opened = np.asarray(cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_OPEN, kernel), np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(opened)
    if len(stats) < 2:
        raise XrayError("No foreground can be found in this image: no region is brighter than the rest.")
    return _without_small_holes(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def _bright(blurred: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The pixels (H, W) above the lowest threshold that does not let most of the picture pass."""
    otsu, _ = cv2.threshold(blurred, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    triangle, _ = cv2.threshold(blurred, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_TRIANGLE)
    for threshold in sorted((otsu, max(triangle, 0.5 * otsu))):
        bright = blurred > threshold
        if bright.mean() < _FULLEST:
            return np.asarray(bright)
    # Even Otsu's parts a bright plate from its black surroundings: look for the hand on the plate alone.
    inner, _ = cv2.threshold(blurred[bright], 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return np.asarray(blurred > inner)


def _without_small_holes(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The region (H, W) with its holes filled, save those as large as the space beside a hand on a framed film."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((~region).astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < _LARGEST_HOLE * region.size
    touching = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    small[touching] = False
    small[0] = False
    return np.asarray(region | small[labels])
