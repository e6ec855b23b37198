"""What a marker detector is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.preparation.step import Mask

Quad: TypeAlias = NDArray[np.float32]
"""The corners (4, 2) of a turned rectangle: x, y in pixels, in order around it."""


class MarkerDetector(Protocol):
    """Finds markers in a view of a radiograph."""

    @property
    def identity(self) -> str:
        """Names the detector and whatever else its boxes depend on, such as its version."""

    def detect(self, view: NDArray[np.uint8], body: Mask) -> Sequence[Quad]:
        """Draws a box around each marker or line of writing.

        Args:
            view: (h, w), bones bright, longest side about 512.
            body: Where the body is, (h, w); no detector has to keep off it.

        Returns:
            The boxes; several of them may lie on one marker.
        """


def rectangle(points: NDArray[np.generic], margin: float = 0.0) -> Quad:
    """The smallest turned rectangle around points.

    Args:
        points: (K, 2) x, y in pixels, at least one.
        margin: How much longer and wider it becomes, as a share of its shorter side.

    Returns:
        Its corners.
    """
    middle, (width, height), degrees = cv2.minAreaRect(points.astype(np.float32))
    more = margin * min(width, height)
    return np.asarray(cv2.boxPoints((middle, (width + more, height + more), degrees)), np.float32)
