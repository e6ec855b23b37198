"""Compiled models: a picture in, scores and a map out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomalib_xray.edge.description import Description
from anomalib_xray.errors import XrayError
from anomalib_xray.openvino_runtime import openvino_core

if TYPE_CHECKING:
    import openvino  # type: ignore[import-untyped]  # openvino ships no types

INPUT, SCORES, MAP = "image", "scores", "anomaly_map"
"""Names of the input and the outputs of a bundle's model."""

STOCK_SCORE = "pred_score"
"""Name of the one score of a stock export."""

CENTRED = "centred"
"""Padding with the picture in the centre of its square, the default of a bundle."""

_LARGEST_CENTRED = 0.5 - 2.0**-24
"""Largest distance from 1/2 that a float32 below 1 can have."""


class Graph:
    """A model of a bundle, or a stock export, loaded and ready. May be used by several threads at once.

    It is opened from an ``.xml`` or ``.onnx`` file, or from the graph itself. ``arithmetic`` is OpenVINO's hint of the
    precision to compute in: ``f32`` agrees with torch, ``bf16`` is faster where the device has it. ``None`` leaves it,
    and the number of threads, to OpenVINO.
    """

    def __init__(
        self,
        model: openvino.Model | Path,
        *,
        device: str = "CPU",
        threads: int | None = None,
        arithmetic: str | None = "f32",
    ) -> None:
        core = openvino_core()
        self._name = model if isinstance(model, Path) else "The graph"
        settings: dict[str, Any] = {} if arithmetic is None else {"INFERENCE_PRECISION_HINT": arithmetic}
        if threads is not None:
            if threads < 1:
                raise XrayError(f"{threads} threads cannot compute anything: give 1 or more.")
            settings["INFERENCE_NUM_THREADS"] = threads
        if device.split(".")[0] not in {name.split(".")[0] for name in core.available_devices}:
            raise XrayError(f"There is no device {device}; choose one of {', '.join(core.available_devices)}.")
        if arithmetic == "bf16" and "BF16" not in core.get_property(device, "OPTIMIZATION_CAPABILITIES"):
            raise XrayError(f"The device {device} cannot compute in {arithmetic}; choose the precision fp32.")
        try:
            read = core.read_model(model) if isinstance(model, Path) else model
            self._compiled = core.compile_model(read, device, settings)
        except RuntimeError as error:
            reason = "it is damaged or of an unknown format"
            raise XrayError(f"{self._name} cannot be loaded on {device}: {reason}.") from error
        outputs = {name for output in self._compiled.outputs for name in output.names}
        if not outputs & {SCORES, STOCK_SCORE}:
            raise XrayError(f"{self._name} has no output {SCORES!r} or {STOCK_SCORE!r}: make the bundle again.")
        self._scores = SCORES if SCORES in outputs else STOCK_SCORE
        self._has_map = MAP in outputs
        # Of an earlier picture each, with the memory that it needed: making one anew costs as much as a small model.
        self._idle: list[Any] = []

    def __call__(self, picture: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        """Scores a picture.

        Args:
            picture: (H, W) in [0, 1]; the graph pads and resizes by itself.

        Returns:
            Scores (K,) and the map (S, S) of the padded square, as the graph returns them; ``None`` without a map.
        """
        batch = np.repeat(picture[np.newaxis, np.newaxis], 3, axis=1)
        try:
            request = self._idle.pop()  # nobody else's until it is back: two threads cannot share one
        except IndexError:
            request = self._compiled.create_infer_request()
        try:
            outputs: Any = request.infer(batch, share_inputs=True)  # the results are copies, and stay
        except RuntimeError as error:
            size = f"{picture.shape[1]} x {picture.shape[0]}"
            raise XrayError(f"{self._name} cannot process a picture of {size} pixels.") from error
        self._idle.append(request)
        scores = np.asarray(outputs[self._scores], np.float64).reshape(-1)
        if not self._has_map:
            return scores, None
        anomaly_map = np.asarray(outputs[MAP], np.float32)
        return scores, anomaly_map.reshape(anomaly_map.shape[-2:])


def unnormalise(values: ArrayLike, threshold: float | None, minimum: float, maximum: float) -> NDArray[np.float64]:
    """Inverts the normalisation 1/2 + x / (1 + 2 |x|) with x = (raw - threshold) / (maximum - minimum).

    With y = value - 1/2 that is x = y / (1 - 2 |y|) and raw = threshold + x (maximum - minimum). Without a threshold
    the middle of minimum and maximum became 1/2. Float32 reaches 0 and 1 for raw values millions of ranges away; these
    become the farthest value that it can tell apart.

    Example:
        >>> unnormalise([0.5, 0.75], 0.1, 0.0, 0.2).round(6).tolist()
        [0.1, 0.2]
    """
    centre = (minimum + maximum) / 2 if threshold is None else threshold
    centred = np.clip(np.asarray(values, dtype=np.float64) - 0.5, -_LARGEST_CENTRED, _LARGEST_CENTRED)
    return np.asarray(centre + centred / (1 - 2 * np.abs(centred)) * (maximum - minimum))


def raw_values(
    about: Description, scores: NDArray[np.float64], anomaly_map: NDArray[np.float32] | None
) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
    """Inverts the normalisation of a stock export; values of a graph that does not normalise stay."""
    limits = about.normalization
    if limits is not None and limits.image is not None:
        scores = unnormalise(scores, about.thresholds.get(about.score), *limits.image)
    if limits is not None and limits.pixel is not None and anomaly_map is not None:
        anomaly_map = unnormalise(anomaly_map, about.pixel_threshold, *limits.pixel).astype(np.float32)
    return scores, anomaly_map


def to_picture(
    anomaly_map: NDArray[np.float32], height: int, width: int, padding: str = CENTRED
) -> NDArray[np.float32]:
    """Lays a map of the padded square back onto the picture.

    The graph pads a picture (H, W) to a square and resizes it; this resizes the map (S, S) to that square and cuts the
    padding off. It is ``centred``, an odd remainder at the bottom or right, or ``uniform``, all of it there.

    Example:
        >>> to_picture(np.eye(4, dtype=np.float32), 2, 4).tolist()
        [[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    """
    side = max(height, width)
    shrinks = side < max(anomaly_map.shape)
    square = cv2.resize(anomaly_map, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    top, left = ((side - height) // 2, (side - width) // 2) if padding == CENTRED else (0, 0)
    return np.ascontiguousarray(square[top : top + height, left : left + width], dtype=np.float32)
