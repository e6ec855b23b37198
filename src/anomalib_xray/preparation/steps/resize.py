"""The step that brings pictures to one size."""

from __future__ import annotations

import cv2
import numpy as np

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph
from anomalib_xray.preparation.step import Matrix, Plan, Step
from anomalib_xray.preparation.view import blended, scaling


class Resize(Step):
    """Resize a picture so that its longest side has a given length; the aspect ratio stays but for squares.

    Shrinking averages areas, enlarging interpolates bilinearly. Pixels of 0 are background and have no say in the grey
    levels beside them, so a hand's rim does not fade: the background stays exactly 0, the foreground at least 1.

    Args:
        longest_side: In pixels.
        enlarge: Whether smaller pictures are enlarged; otherwise they pass unchanged.
        square: Whether the picture is stretched to a square of that side, enlarged where it must be. For data sets
            whose normal pictures have another shape than the others: padding would show a model which is which.

    Raises:
        XrayError: ``longest_side`` is less than 1.

    Example:
        >>> step, image = Resize(longest_side=2), np.full((4, 2), 9, np.uint8)
        >>> step.apply(image, step.plan(image)).shape
        (2, 1)
    """

    def __init__(self, longest_side: int = 512, *, enlarge: bool = False, square: bool = False) -> None:
        if longest_side < 1:
            raise XrayError(f"The setting longest_side is {longest_side}; it must be at least 1 pixel.")
        self.longest_side = longest_side
        self.enlarge = enlarge
        self.square = square

    def plan(self, image: Radiograph) -> Plan:
        """Compute height and width ``before`` and ``after``."""
        scale = self.longest_side / max(image.shape)
        after = [max(round(side * scale), 1) for side in image.shape]
        if self.square:
            after = [self.longest_side, self.longest_side]
        elif scale > 1 and not self.enlarge:
            return Plan()
        return Plan() if list(image.shape) == after else Plan({"before": list(image.shape), "after": after})

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        """Resize the picture; a pixel is background where at least half of it was."""
        before, after = plan.parameters["before"], plan.parameters["after"]
        filtering = cv2.INTER_AREA if max(after) < max(before) else cv2.INTER_LINEAR
        size = (after[1], after[0])
        weighted = cv2.resize(image.astype(np.float32), size, interpolation=filtering)
        covered = cv2.resize((image > 0).astype(np.float32), size, interpolation=filtering)
        return blended(weighted, covered, image.dtype.type)

    def matrix(self, plan: Plan) -> Matrix:
        """The change of size."""
        return scaling(plan.parameters["before"], plan.parameters["after"])
