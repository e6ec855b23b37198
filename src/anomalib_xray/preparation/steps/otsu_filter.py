"""The step that removes the background by Otsu's threshold."""

from __future__ import annotations

from typing import ClassVar, cast

import cv2
import numpy as np

from anomalib_xray.io.read import Radiograph
from anomalib_xray.preparation.step import Plan, Step
from anomalib_xray.preparation.view import full_mask, small_view

_KERNEL = 19  # pixels of the view


class OtsuFilter(Step):
    """Set the darker part of a picture to 0 (arXiv 2001.10883, public code).

    The parts are those of Otsu's threshold on the picture with its histogram equalised and a median filter of 19 x 19
    on top; the grey levels that remain are the picture's own. Flags pictures of a single part with ``no_foreground``.
    """

    failures: ClassVar[frozenset[str]] = frozenset({"no_foreground"})

    def plan(self, image: Radiograph) -> Plan:
        """Find the brighter part, a ``mask`` (H, W)."""
        equalised = np.asarray(cv2.equalizeHist(small_view(image)), np.uint8)
        _, bright = cv2.threshold(cv2.medianBlur(equalised, _KERNEL), 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        if bright.min() == bright.max():
            return Plan(flags=("no_foreground",))
        return Plan({"mask": full_mask(bright > 0, image.shape)})

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        """Set the background to 0; in the foreground nothing changes."""
        return cast("Radiograph", image * plan.parameters["mask"])
