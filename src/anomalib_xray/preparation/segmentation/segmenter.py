"""The plug point: what every way to find the foreground offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.preparation.step import Mask


class ForegroundSegmenter(Protocol):
    """Tells the hands from the background."""

    def segment(self, view: NDArray[np.uint8]) -> Mask:
        """Finds the foreground.

        Args:
            view: (h, w), bones bright.

        Returns:
            (h, w), True where a hand is; all False where none is found. The same view always gives the same mask.
        """
        ...
