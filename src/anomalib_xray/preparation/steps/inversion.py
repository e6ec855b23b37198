"""The step that brings pictures with dark bones to bright bones."""

from __future__ import annotations

from typing import Literal, cast, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph
from anomalib_xray.preparation.step import Plan, Step
from anomalib_xray.preparation.view import detail, small_view

Method = Literal["robust", "published"]

_VIEW_SIDE = 256
_MARGIN = 0.25  # share of each side that is left out: edges of carriers and bright frames are no anatomy
_WINDOW = 41  # pixels of the view; wider than a finger, so that a window holds tissue and background
_LEAST_SPREAD = 1e-3  # keeps windows without any texture at a correlation of 0
_LEAST_LEVELS = 2.0  # standard deviation of grey levels in a window; less is noise, or the slope of an empty plate
_LEAST_SEEN = 0.02  # share of the middle that such windows take; with less, anatomy lies elsewhere
_LEAST_CORRELATION = 0.05  # weaker evidence leaves a picture as it is: inverted ones are rare
_CORNER = 50  # pixels


class Inversion(Step):
    """Invert pictures that show bones dark on bright ground; flags them with ``inverted``.

    ``robust`` looks at the middle of the picture: anatomy is rich in detail, the background beside it is smooth. If the
    detailed pixels of a neighbourhood are its darker ones, bones are dark. Grey levels as such have no say, so bright
    surroundings, white frames and overexposed backgrounds do not matter. The rule is made for hands and other limbs;
    lungs are dark and rich in detail, so chest radiographs need ``published``.

    ``published`` is the rule of the original code for arXiv 2001.10883: inverted if the four corners, or the whole
    picture, are brighter than half of the grey levels. It takes some films with white borders for inverted ones.

    Args:
        method: ``robust`` or ``published``.

    Raises:
        XrayError: The method is unknown.

    Example:
        >>> Inversion("published").plan(np.full((8, 8), 200, np.uint8))
        Plan(parameters={'white': 255}, flags=('inverted',))
    """

    version = 2

    def __init__(self, method: Method = "robust") -> None:
        if method not in get_args(Method):
            raise XrayError(f"The inversion's method is {method!r}; choose one of {', '.join(get_args(Method))}.")
        self.method = method

    def plan(self, image: Radiograph) -> Plan:
        """Decide whether bones are dark; ``white`` is the grey level that becomes 0."""
        dark_bones = texture_is_dark if self.method == "robust" else surroundings_are_bright
        if not dark_bones(image):
            return Plan()
        white = 255 if image.dtype == np.uint8 else int(image.max())
        return Plan({"white": white}, ("inverted",))

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        """Turn the grey levels round."""
        white = image.dtype.type(plan.parameters["white"])
        return cast("Radiograph", white - np.minimum(image, white))


def texture_is_dark(image: Radiograph) -> bool:
    """Whether grey level and detail within a neighbourhood mostly go against each other; False without detail."""
    view = small_view(image, _VIEW_SIDE)
    top, left = (int(side * _MARGIN) for side in view.shape)
    view = view[top : view.shape[0] - top, left : view.shape[1] - left]
    grey, fine = view.astype(np.float32), detail(view)
    covariance = _mean(grey * fine) - _mean(grey) * _mean(fine)
    levels = _variance(grey)
    correlation = covariance / (np.sqrt(levels * _variance(fine)) + _LEAST_SPREAD)
    seen = levels >= _LEAST_LEVELS**2
    return bool(seen.mean() >= _LEAST_SEEN and np.median(correlation[seen]) < -_LEAST_CORRELATION)


def surroundings_are_bright(image: Radiograph) -> bool:
    """Whether the mean of four corners of 50 x 50 pixels, or the mean of the picture, exceeds 127.5."""
    view = small_view(image)
    corners = [part for half in (view[:_CORNER], view[-_CORNER:]) for part in (half[:, :_CORNER], half[:, -_CORNER:])]
    return bool(np.mean([corner.mean() for corner in corners]) > 127.5 or view.mean() > 127.5)


def _mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of each pixel's neighbourhood."""
    return np.asarray(cv2.blur(values, (_WINDOW, _WINDOW)), np.float32)


def _variance(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The variance of each pixel's neighbourhood."""
    return np.asarray(np.maximum(_mean(values * values) - _mean(values) ** 2, 0), np.float32)
