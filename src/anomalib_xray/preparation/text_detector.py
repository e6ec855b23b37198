"""Markers as writing: the text detector PP-OCRv6, through RapidOCR and OpenVINO."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.preparation.markers import Quad, rectangle
from anomalib_xray.preparation.step import Mask

if TYPE_CHECKING:
    from rapidocr import RapidOCR

_MODEL = "models/PP-OCRv6_det_small.onnx"
_SIDE = 512
_GRID = 128  # pixels; sides are padded to a multiple of it
# Lead letters are fainter and blurrier than print, so the thresholds are below RapidOCR's own (0.3 and 0.5).
_PIXEL_THRESHOLD = 0.2
_BOX_THRESHOLD = 0.25


def text_detector_installed() -> bool:
    """Whether the optional package RapidOCR is there; it is not imported."""
    return importlib.util.find_spec("rapidocr") is not None


class TextDetector:
    """A finder of writing at any angle: the detection half of PP-OCRv6 (Apache-2.0).

    The model is part of RapidOCR's wheel; nothing is downloaded. It is loaded at the first picture and kept for the
    life of the process. An :class:`XrayError` says that RapidOCR is not installed.
    """

    def __init__(self) -> None:
        if not text_detector_installed():
            raise XrayError(
                "Finding writing on radiographs needs RapidOCR: install it with pip install 'anomalib-xray[text]'."
            )

    @property
    def identity(self) -> str:
        """The versions of the program and of the model."""
        return _identity()

    def detect(self, view: NDArray[np.uint8], body: Mask) -> Sequence[Quad]:
        """Draw a box around each line of writing."""
        del body
        # OpenVINO keeps memory for every size it meets, so that a few sizes must do.
        bottom, right = -view.shape[0] % _GRID, -view.shape[1] % _GRID
        padded = cv2.copyMakeBorder(view, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
        found = cast("_Found", _reader()(padded))
        return [] if found.boxes is None else [rectangle(box) for box in found.boxes]


def _model_path() -> Path:
    """The model in the installed wheel; without it RapidOCR would try to download it."""
    specification = importlib.util.find_spec("rapidocr")
    folders = (specification.submodule_search_locations if specification else None) or []
    for folder in folders:
        if (path := Path(folder, _MODEL)).is_file():
            return path
    raise XrayError(f"RapidOCR's model {_MODEL} is missing: install it with pip install 'anomalib-xray[text]'.")


@cache
def _identity() -> str:
    return f"text: rapidocr {version('rapidocr')}, {hashlib.sha256(_model_path().read_bytes()).hexdigest()[:16]}"


class _Found(Protocol):
    """The answer of RapidOCR if it only detects."""

    boxes: NDArray[np.float32] | None  # (K, 4, 2)


@cache
def _reader() -> RapidOCR:
    """RapidOCR with the detector alone, on one thread; once per process."""
    try:
        from rapidocr import EngineType, RapidOCR
    except ImportError as error:
        raise XrayError(
            f"RapidOCR does not start ({error}): install it anew with pip install 'anomalib-xray[text]'."
        ) from error

    # Each part would choose an engine and a model of its own otherwise, and download what the wheel does not have.
    engines = {f"{part}.engine_type": EngineType.OPENVINO for part in ("Det", "Cls", "Rec")}
    return RapidOCR(
        params={
            **engines,
            "Global.log_level": "critical",
            "Global.use_cls": False,
            "Global.use_rec": False,
            "Det.model_path": str(_model_path()),
            "Det.limit_type": "max",
            "Det.limit_side_len": _SIDE,
            "Det.thresh": _PIXEL_THRESHOLD,
            "Det.box_thresh": _BOX_THRESHOLD,
            # Pictures are prepared by one process per core.
            "EngineConfig.openvino.inference_num_threads": 1,
            "EngineConfig.openvino.num_streams": 1,
        }
    )
