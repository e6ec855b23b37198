"""The step that removes lead markers and writing from the plate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import cv2
import numpy as np

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph
from anomalib_xray.preparation.markers import BrightDetector, MarkerDetector, Polygon, beside_body, body_of, filled
from anomalib_xray.preparation.step import Matrix, Plan, Step
from anomalib_xray.preparation.text_detector import TextDetector, text_detector_installed
from anomalib_xray.preparation.view import scaling, small_view

Detector = Literal["auto", "text", "bright", "none"]
_RADIUS = 3  # pixels around each one that Telea's method looks at; as published
_AROUND = 4 * _RADIUS  # pixels around a marker that it is given


class MarkerRemoval(Step):
    """Find lead markers and writing beside the hand and paint the background over them.

    Boxes are found in a view of 512 pixels, kept off an estimate of the body, and filled by Telea's inpainting (A.
    Telea, An image inpainting technique based on the fast marching method, 2004). Markers on the body stay. Bones must
    be bright, and carriers should be cropped away: hands and markers are told apart more surely then. The idea is that
    of arXiv 2001.10883.

    Flags: ``markers_removed``; ``marker_near_body`` if a box on the body's outline was clipped or dropped;
    ``body_unclear`` if the body was not found, so that nothing could be removed safely;
    ``markers_by_fallback`` if ``auto`` had to do without the text detector.

    Args:
        detector: ``text`` finds writing with the network PP-OCRv6 and needs the extra ``text``; ``bright`` finds small
            bright things by rules, without a network; ``auto`` uses both, or ``bright`` alone if the extra is not
            installed; ``none`` removes nothing.
        margin: Widening of a box before it is filled, as a share of its shorter side. Too little leaves the blurred
            rims of letters, from which the filling takes its grey levels.
        largest: Share of the picture above which a box is not a marker.

    Raises:
        XrayError: A setting is impossible, or the detector is not installed.
    """

    def __init__(self, detector: Detector = "auto", margin: float = 0.25, largest: float = 0.09) -> None:
        if detector not in get_args(Detector):
            raise XrayError(f"detector must be one of {', '.join(get_args(Detector))}, not {detector!r}.")
        if not 0 <= margin <= 2:
            raise XrayError(f"margin is a share of a box from 0 to 2, not {margin}.")
        if not 0 < largest <= 1:
            raise XrayError(f"largest is a share of the picture, above 0 and at most 1, not {largest}.")
        self._margin = margin
        self._largest = largest
        by_fallback = detector == "auto" and not text_detector_installed()
        self._detectors = _detectors(detector, by_fallback=by_fallback)
        self._always: tuple[str, ...] = ("markers_by_fallback",) if by_fallback else ()

    def fingerprint(self, name: str) -> str:
        """The detectors really in use, which for ``auto`` depend on what is installed."""
        del name
        return " + ".join(detector.identity for detector in self._detectors)

    def plan(self, image: Radiograph) -> Plan:
        """Find the ``polygons``: for each marker its corners [x, y]; more than four if the body clips the box."""
        if not self._detectors:
            return Plan()
        view = small_view(image)
        body = body_of(view)
        if body is None:
            return Plan(flags=("body_unclear", *self._always))
        found = [box for detector in self._detectors for box in detector.detect(view, body)]
        boxes = [box for box in found if cv2.contourArea(box) <= self._largest * view.size]
        polygons, near_body = beside_body(boxes, self._margin, body, view)
        flags = (*("markers_removed",) * bool(polygons), *("marker_near_body",) * near_body, *self._always)
        if not polygons:
            return Plan(flags=flags)
        matrix = scaling(view.shape, image.shape)
        return Plan({"polygons": [_moved(polygon, matrix) for polygon in polygons]}, flags)

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        """Fill the polygons from their surroundings."""
        polygons = [np.array(polygon) for polygon in plan.parameters["polygons"]]
        markers = filled(polygons, image.shape).astype(np.uint8)
        outlines, _ = cv2.findContours(markers, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        painted = image.copy()
        for outline in outlines:
            # Telea's method walks through the whole picture, but only what is close by has a say.
            x, y, width, height = cv2.boundingRect(outline)
            around = np.s_[max(y - _AROUND, 0) : y + height + _AROUND, max(x - _AROUND, 0) : x + width + _AROUND]
            patch = cv2.inpaint(image[around], markers[around], _RADIUS, cv2.INPAINT_TELEA)
            own = filled([outline[:, 0] - (around[1].start, around[0].start)], patch.shape)
            painted[around][own] = patch[own]
        return painted


def _detectors(detector: Detector, *, by_fallback: bool) -> Sequence[MarkerDetector]:
    if detector == "none":
        return ()
    if detector == "bright" or by_fallback:
        return (BrightDetector(),)
    if detector == "text":
        return (TextDetector(),)
    # Writing that lies on a bright patch escapes the rules, and single letters escape the network.
    return (TextDetector(), BrightDetector())


def _moved(polygon: Polygon, matrix: Matrix) -> list[list[float]]:
    """The polygon's corners [x, y] moved by a matrix (3, 3), to a tenth of a pixel."""
    moved = polygon.astype(np.float64) @ matrix[:2, :2].T + matrix[:2, 2]
    return [[float(x), float(y)] for x, y in moved.round(1)]
