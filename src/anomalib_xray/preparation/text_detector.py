"""Markers as writing: the text detector PP-OCRv6, run by OpenVINO."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.preparation.markers import Quad, may_hold_letters
from anomalib_xray.preparation.networks import ModelFile
from anomalib_xray.preparation.step import Mask
from anomalib_xray.preparation.view import reduced, scaling

_MODEL = "models/PP-OCRv6_det_small.onnx"
_SIDE = 288  # pixels; at 512 it finds no more, in more than twice the time
_GRID = 32  # pixels; sides are padded to a multiple of it
# Lead letters are fainter and blurrier than print, so the thresholds are below the usual ones (0.3 and 0.5).
_PIXEL_THRESHOLD = 0.2
_BOX_THRESHOLD = 0.25
_CORE = 1.6  # the network marks the core of a line; its box is widened by its area, by this and by its outline's length
_SMALLEST_CORE, _SMALLEST = 3, 5  # pixels of the shorter side
_LEAST_CONTRAST = 8  # grey levels; in a box with less there is no writing that anybody can see


def text_detector_installed() -> bool:
    """Whether the optional package RapidOCR is there; it is not imported."""
    return importlib.util.find_spec("rapidocr") is not None


class TextDetector:
    """A finder of writing at any angle: the detection half of PP-OCRv6 (Apache-2.0).

    The model is part of RapidOCR's wheel, of which nothing else is used; nothing is downloaded. It is loaded at the
    first picture and kept for the life of the process. An :class:`XrayError` says that RapidOCR is not installed.

    From the network's map to boxes it goes as in Liao et al., Real-time Scene Text Detection with Differentiable
    Binarization, AAAI 2020.
    """

    def __init__(self) -> None:
        if not text_detector_installed():
            raise XrayError(
                "Finding writing on radiographs needs RapidOCR: install it with pip install 'anomalib-xray[text]'."
            )

    @property
    def identity(self) -> str:
        """The version of the rules around the model, and the model's hash."""
        return f"text 2: PP-OCRv6 {_model().fingerprint()[:16]}"

    def detect(self, view: NDArray[np.uint8], body: Mask) -> Sequence[Quad]:
        """Draw a box around each line of writing; without asking the network where nothing could be any."""
        if not may_hold_letters(view, body):
            return []
        smaller = reduced(view, _SIDE)
        to_view = scaling(smaller.shape, view.shape)
        boxes = [np.asarray(box @ to_view[:2, :2].T + to_view[:2, 2], np.float32) for box in _lines(_writing(smaller))]
        return [box for box in boxes if _contrast(view, box) >= _LEAST_CONTRAST]


def _writing(view: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The probability (h, w) of each pixel to be the core of a line of writing."""
    height, width = view.shape
    # OpenVINO keeps memory for every size it meets, so that a few sizes must do.
    padded = cv2.copyMakeBorder(view, 0, -height % _GRID, 0, -width % _GRID, cv2.BORDER_REPLICATE)
    image = np.repeat((padded.astype(np.float32) / 127.5 - 1)[np.newaxis, np.newaxis], 3, axis=1)
    return np.asarray(_model().compiled()(image)[0][0, 0, :height, :width], np.float32)


def _lines(writing: NDArray[np.float32]) -> list[Quad]:
    """The lines among the pixels (h, w), each as a turned rectangle (4, 2)."""
    cores = cv2.dilate((writing > _PIXEL_THRESHOLD).astype(np.uint8), np.ones((2, 2), np.uint8))
    outlines, _ = cv2.findContours(cores, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    boxes = []
    for outline in outlines:
        middle, (width, height), degrees = cv2.minAreaRect(outline)
        if min(width, height) < _SMALLEST_CORE or _mean_inside(writing, outline) < _BOX_THRESHOLD:
            continue
        more = _CORE * width * height / (width + height)
        if min(width, height) + more >= _SMALLEST:
            boxes.append(np.asarray(cv2.boxPoints((middle, (width + more, height + more), degrees)), np.float32))
    return boxes


def _mean_inside(writing: NDArray[np.float32], outline: cv2.typing.MatLike) -> float:
    """The mean of the map within the turned rectangle around an outline."""
    inside = np.zeros(writing.shape, np.uint8)
    cv2.fillPoly(inside, [cv2.boxPoints(cv2.minAreaRect(outline)).astype(np.int32)], 1)
    return float(cv2.mean(writing, inside)[0])


def _contrast(view: NDArray[np.uint8], box: Quad) -> float:
    """The range of the grey levels in a box, without the extremes."""
    inside = np.zeros(view.shape, np.uint8)
    cv2.fillConvexPoly(inside, np.rint(box).astype(np.int32), 1)
    levels = view[inside > 0]
    return float(np.ptp(np.percentile(levels, (2, 98)))) if levels.size else 0.0


def _model() -> ModelFile:
    """The model in the installed wheel."""
    specification = importlib.util.find_spec("rapidocr")
    folders = (specification.submodule_search_locations if specification else None) or []
    for folder in folders:
        if (path := Path(folder, _MODEL)).is_file():
            return ModelFile(path, (), "text detector")
    raise XrayError(f"RapidOCR's model {_MODEL} is missing: install it with pip install 'anomalib-xray[text]'.")
