"""Numbers of a picture that need no model.

Where one of them tells abnormal from normal, the data set leaks its label, and a model may have learnt nothing else:
normal chests of one hospital are larger pictures, ill patients are radiographed lying. They stand beside every figure.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike

from anomalib_xray.evaluation.ranking import Ranking
from anomalib_xray.io.read import Radiograph, to_unit_interval
from anomalib_xray.preparation.steps.marker_removal import MarkerRemoval

SHORTCUTS = ("pixels", "aspect", "mean_grey", "contrast", "sharpness", "foreground_area", "markers")
"""Names of the numbers."""

VIEW = 256
"""Longest side in pixels at which sharpness is measured: at full size it would be the picture's size in disguise."""


def shortcut_numbers(image: Radiograph) -> dict[str, float]:
    """Measures a picture.

    Args:
        image: (H, W), uint8 or uint16.

    Returns:
        ``pixels``, H W; ``aspect``, W / H; ``mean_grey`` and ``contrast``, mean and standard deviation over the
        foreground, in [0, 1]; ``sharpness``, standard deviation of the Laplacian; ``foreground_area``, share of pixels
        above 0; ``markers``, number of bright things beside the body.

    Example:
        >>> shortcut_numbers(np.full((30, 60), 255, np.uint8))["aspect"]
        2.0
    """
    height, width = image.shape
    grey = to_unit_interval(image)
    foreground = grey[grey > 0]
    if not foreground.size:
        foreground = np.zeros(1, np.float32)
    scale = VIEW / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    found = MarkerRemoval(detector="bright").plan(image).parameters
    return {
        "pixels": float(height * width),
        "aspect": width / height,
        "mean_grey": float(foreground.mean()),
        "contrast": float(foreground.std()),
        "sharpness": float(cv2.Laplacian(small, cv2.CV_32F).std()),
        "foreground_area": float((grey > 0).mean()),
        "markers": float(len(found.get("polygons", []))),
    }


def direction_of(labels: ArrayLike, numbers: ArrayLike) -> int:
    """Sign of a number that tells abnormal (1) from normal (0): -1 where it is lower for abnormal images, else 1.

    It comes from validation images, so that the test decides nothing.

    >>> direction_of([0, 0, 1, 1], [4, 3, 2, 1])
    -1
    """
    return 1 if Ranking(labels, numbers).auroc()[0] >= 0.5 else -1
