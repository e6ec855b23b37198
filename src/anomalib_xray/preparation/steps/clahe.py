"""The step that evens out local contrast."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph
from anomalib_xray.preparation.step import Plan, Step
from anomalib_xray.preparation.view import keep_background

_BIT_SHIFT = 6  # 16 bit are equalised in 1024 levels: a tile has too few pixels to fill 65536, and clips nothing then


class Clahe(Step):
    """Contrast-limited adaptive histogram equalisation (Zuiderveld 1994, as in the public code of arXiv 2001.10883).

    Pictures of 16 bit are equalised in 1024 levels.

    Args:
        clip_limit: Most frequent grey level in a tile, in multiples of the average frequency; larger than 0.
        tiles: Number of tiles along each side; at least 1.

    Raises:
        XrayError: A setting is out of range.
    """

    def __init__(self, clip_limit: float = 3.0, tiles: int = 8) -> None:
        if not 0 < clip_limit < float("inf"):
            raise XrayError(f"The setting clip_limit is {clip_limit}; it must be a number larger than 0.")
        if tiles < 1:
            raise XrayError(f"The setting tiles is {tiles}; it must be at least 1.")
        self.clip_limit = clip_limit
        self.tiles = tiles

    def plan(self, image: Radiograph) -> Plan:
        """Name ``clip_limit`` and ``tiles``; the picture has no influence."""
        del image
        return Plan({"clip_limit": self.clip_limit, "tiles": self.tiles})

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        """Equalise the picture; pixels of 0 stay 0, the others stay at least 1."""
        tiles = plan.parameters["tiles"]
        equaliser = cv2.createCLAHE(clipLimit=plan.parameters["clip_limit"], tileGridSize=(tiles, tiles))
        if image.dtype == np.uint16:
            equaliser.setBitShift(_BIT_SHIFT)
        return keep_background(cast("Radiograph", equaliser.apply(image)), image)
