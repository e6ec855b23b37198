"""Cuts the image carrier out of its surroundings and sets it upright."""

from __future__ import annotations

from typing import cast, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph
from anomalib_xray.preparation.carrier_search import Corners, Method, find_carrier
from anomalib_xray.preparation.step import Matrix, Plan, Step
from anomalib_xray.preparation.view import scaling, small_view

_LARGEST = 32766  # OpenCV warps pictures with sides up to this many pixels


class CarrierCrop(Step):
    """Crops a picture to its image carrier, which may be tilted (arXiv 2001.10883, section on preprocessing).

    The carrier is looked for on a small view and cut out at full resolution. Where none is found the picture passes and
    is flagged ``no_carrier``; that is normal, most pictures show nothing but the carrier.

    Args:
        method: How it is looked for, see :func:`anomalib_xray.preparation.carrier_search.find_carrier`: ``ladder``, or
            as published ``otsu`` (the paper) or ``contours`` (its code).
        frames: How many carriers within one another are taken off; films on films exist.
        margin: Share of the carrier's shorter side that is trimmed on each side, so that nothing of its edge stays.
        portrait: Whether a carrier that is wider than high is turned clockwise by a quarter, as in the published code.

    Raises:
        XrayError: A setting is unknown or out of range.
    """

    def __init__(
        self, method: Method = "ladder", frames: int = 2, margin: float = 0.006, *, portrait: bool = False
    ) -> None:
        if method not in get_args(Method):
            raise XrayError(f"The carrier crop's method is {method!r}; choose one of {', '.join(get_args(Method))}.")
        if frames < 1:
            raise XrayError(f"The setting frames is {frames}; it must be at least 1.")
        if not 0 <= margin <= 0.2:
            raise XrayError(f"The setting margin is {margin}; it is a share from 0 to 0.2.")
        self.method: Method = method
        self.frames = frames
        self.margin = margin
        self.portrait = portrait

    def plan(self, image: Radiograph) -> Plan:
        """Finds the carrier.

        Args:
            image: (H, W), uint8 or uint16.

        Returns:
            The ``corners`` of what remains, as x and y in pixels, clockwise from the one that becomes the top left one,
            and its ``size``, height and width in pixels.
        """
        corners = self._find(image) if max(image.shape) <= _LARGEST else None
        if corners is None:
            return Plan(flags=("no_carrier",))
        width, height = _sides(corners)
        if self.portrait and width > height:
            corners = np.roll(corners, 1, axis=0)
            width, height = height, width
        return Plan({"corners": corners.round(2).tolist(), "size": [round(height) + 1, round(width) + 1]})

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        """Cuts out the carrier.

        Args:
            image: (H, W), uint8 or uint16.
            plan: What :meth:`plan` returned.

        Returns:
            (h, w), of the same depth. Where the carrier leaves the picture, the picture's border is repeated.
        """
        return cast("Radiograph", _cut(image, self.matrix(plan), plan.parameters["size"]))

    def matrix(self, plan: Plan) -> Matrix:
        """The turn and shift that sets the carrier upright.

        Args:
            plan: What :meth:`plan` returned.

        Returns:
            (3, 3), leads from pixel coordinates (x, y, 1) before to those after.
        """
        return _upright_matrix(np.array(plan.parameters["corners"]), plan.parameters["size"])

    def _find(self, image: Radiograph) -> Corners | None:
        """The corners of the innermost carrier, trimmed, in the picture's coordinates; None without a carrier."""
        view = small_view(image)
        to_picture = scaling(view.shape, image.shape)
        found = None
        for _ in range(self.frames):
            corners = find_carrier(view, self.method)
            if corners is None:
                break
            corners = _trimmed(corners, self.margin)
            found = _moved(corners, to_picture)
            width, height = _sides(corners)
            size = [round(height) + 1, round(width) + 1]
            inwards = _upright_matrix(corners, size)
            view = np.asarray(_cut(view, inwards, size), np.uint8)
            to_picture = np.asarray(to_picture @ np.linalg.inv(inwards), np.float64)
        return found


def _sides(corners: Corners) -> tuple[float, float]:
    """Width and height of an upright rectangle."""
    return float(np.linalg.norm(corners[1] - corners[0])), float(np.linalg.norm(corners[3] - corners[0]))


def _trimmed(corners: Corners, margin: float) -> Corners:
    """The rectangle without a margin, given as a share of its shorter side."""
    sides = np.array(_sides(corners))
    along, down = (corners[1] - corners[0]) / sides[0], (corners[3] - corners[0]) / sides[1]
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    inwards = signs[:, :1] * along + signs[:, 1:] * down
    return np.asarray(corners + margin * sides.min() * inwards)


def _upright_matrix(corners: Corners, size: list[int]) -> Matrix:
    """Leads from a rectangle's corners to those of a picture of a height and width."""
    bottom, right = size[0] - 1, size[1] - 1
    targets = np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]], np.float32)
    return np.asarray(cv2.getPerspectiveTransform(corners.astype(np.float32), targets), np.float64)


def _moved(points: NDArray[np.float64], matrix: Matrix) -> NDArray[np.float64]:
    """Points (K, 2) in other coordinates."""
    homogeneous = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return np.asarray(homogeneous[:, :2] / homogeneous[:, 2:])


def _cut(image: Radiograph, matrix: Matrix, size: list[int]) -> cv2.typing.MatLike:
    """The part of a picture that a matrix leads to a picture of a height and width."""
    return cv2.warpPerspective(
        image, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
