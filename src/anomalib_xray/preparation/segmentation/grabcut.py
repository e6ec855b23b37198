"""GrabCut from a rectangle, as it was tried for the published work."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.preparation.segmentation.parts import fill_holes
from anomalib_xray.preparation.step import Mask
from anomalib_xray.preparation.view import VIEW_SIDE

_RECTANGLE = (25, 25, 400, 290)  # x, y, width and height on a lying picture of 512 pixels
_SMALLEST_SIDE = 16  # below that there are too few pixels for two mixtures of five Gaussians
_SEED = 0


@dataclass(frozen=True)
class GrabCut:
    """GrabCut (Rother et al., SIGGRAPH 2004) that starts with everything outside of a rectangle as background.

    The published rectangle is x 25, y 25, width 400 and height 290 for a longest side of 512; it is scaled with the
    picture, and turned with upright ones. Kept for comparison: it often loses the hand.

    Attributes:
        iterations: Rounds of fitting the grey levels and cutting anew.
    """

    iterations: int = 5

    def segment(self, view: NDArray[np.uint8]) -> Mask:
        """Finds the foreground.

        Args:
            view: (h, w), bones bright.

        Returns:
            (h, w), without holes; all False for pictures that are tiny or of one grey level.
        """
        if min(view.shape) < _SMALLEST_SIDE or view.min() == view.max():
            return np.zeros(view.shape, np.bool_)
        labels = np.zeros(view.shape, np.uint8)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        # GrabCut starts with k-means from random centres, drawn from OpenCV's one generator, which has no other handle.
        cv2.setRNGSeed(_SEED)
        colour = cv2.cvtColor(view, cv2.COLOR_GRAY2BGR)
        cv2.grabCut(colour, labels, _rectangle(view.shape), *models, self.iterations, cv2.GC_INIT_WITH_RECT)
        return fill_holes(np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)))


def _rectangle(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The published rectangle x, y, width, height on a view of this shape, with background left on all sides."""
    height, width = shape
    x, y, wide, tall = np.multiply(_RECTANGLE, max(shape) / VIEW_SIDE).round().astype(int).tolist()
    if height > width:
        wide, tall = tall, wide
    x, y = max(x, 1), max(y, 1)
    return x, y, min(wide, width - x - 1), min(tall, height - y - 1)
