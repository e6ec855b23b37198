"""How rich in detail a picture is: anatomy is, the surroundings of it and of the carrier are smooth."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def detail(view: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The detail around each pixel: the mean difference from the picture when blurred by a pixel.

    Args:
        view: (H, W), 8 bit.

    Returns:
        (H, W), at least 0; the highest twentieth is cut off, or the outlines of lead markers would outweigh bones.
    """
    grey = view.astype(np.float32)
    around = cv2.GaussianBlur(np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 1)), (0, 0), 2)
    return np.asarray(np.minimum(around, np.percentile(around, 95)), np.float32)
