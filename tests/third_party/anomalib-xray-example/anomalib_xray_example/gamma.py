"""A preparation step from outside of anomalib-xray."""

from __future__ import annotations

import numpy as np

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph
from anomalib_xray.preparation.step import Plan, Step
from anomalib_xray.preparation.view import keep_background


class Gamma(Step):
    """Brings the mean grey level to the middle, with a power of the grey levels.

    Args:
        middle: The mean afterwards, as a share of the brightest level, above 0 and below 1.
    """

    def __init__(self, middle: float = 0.5) -> None:
        if not 0 < middle < 1:
            raise XrayError(f"middle is a share above 0 and below 1, not {middle}.")
        self.middle = middle

    def plan(self, image: Radiograph) -> Plan:
        """Looks at the mean."""
        brightest = int(image.max())
        mean = float(image.mean()) / max(brightest, 1)
        if not 0 < mean < 1:
            return Plan(flags=("no_contrast",))
        return Plan({"gamma": round(float(np.log(self.middle) / np.log(mean)), 4), "brightest": brightest})

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        """Changes the grey levels."""
        unit = image.astype(np.float64) / plan.parameters["brightest"]
        levels = np.rint(unit ** plan.parameters["gamma"] * plan.parameters["brightest"])
        return keep_background(levels.astype(image.dtype), image)
