"""Run a bundle on one radiograph: raw score, verdict, and the heat map on the picture as it lies on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino  # type: ignore[import-untyped]  # openvino ships no types
from numpy.typing import ArrayLike, NDArray

from anomalib_xray.edge.bundle import Bundle, Scale
from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph, to_unit_interval

CENTRED = "centred"
"""Padding with the picture in the centre of its square, as a bundle has it that does not say otherwise."""

_LARGEST_CENTRED = 0.5 - 2.0**-24
"""Largest distance from 1/2 that a float32 below 1 can have."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a model says of one radiograph.

    Attributes:
        score: Raw score, higher = more anomalous.
        normalised: The score as the graph returns it, 1/2 at the bundle's own threshold; ``None`` if that is raw.
        threshold: Raw threshold that decides; ``None`` if there is none.
        heat_map: Raw anomaly map on the picture's own pixels, (H, W) float32; ``None`` if the model has no map.
        pixel_threshold: Raw value from which on a pixel of the map is anomalous; ``None`` if there is none.
    """

    score: float
    normalised: float | None
    threshold: float | None
    heat_map: NDArray[np.float32] | None
    pixel_threshold: float | None

    @property
    def is_anomalous(self) -> bool | None:
        """Whether the raw score reaches the threshold (``>=``); ``None`` without a threshold."""
        return None if self.threshold is None else self.score >= self.threshold


class Runtime:
    """A bundle, loaded and ready. May be used by several threads at once.

    Args:
        bundle: The bundle.
        device: OpenVINO device, e.g. ``CPU`` or ``GPU``.
        threads: Number of CPU threads; ``None`` leaves it to OpenVINO.
        arithmetic: As of :func:`compile_model`.

    Raises:
        XrayError: The device does not exist, or the model cannot be loaded or does not score pictures.
    """

    def __init__(
        self, bundle: Bundle, *, device: str = "CPU", threads: int | None = None, arithmetic: str = "f32"
    ) -> None:
        self.bundle = bundle
        self._compiled = compile_model(bundle.path, device=device, threads=threads, arithmetic=arithmetic)
        self._outputs = {name for output in self._compiled.outputs for name in output.names}
        if "pred_score" not in self._outputs:
            raise XrayError(f"{bundle.path} has no output 'pred_score': export it with a model of anomalib-xray.")

    def predict(self, image: Radiograph, *, threshold: float | None = None) -> Prediction:
        """Scores one radiograph.

        Args:
            image: (H, W), uint8 or uint16, as read from the file; the graph pads and resizes by itself.
            threshold: Raw threshold to decide by instead of the bundle's own.

        Returns:
            The prediction; its heat map has the shape of ``image``.

        Raises:
            XrayError: The picture has another depth, the model cannot process it, or what comes out is not finite.
        """
        outputs = self._infer(to_unit_interval(image))
        value = float(outputs["pred_score"].item())
        anomaly_map = outputs["anomaly_map"] if "anomaly_map" in self._outputs else None
        if not np.isfinite(value) or (anomaly_map is not None and not np.isfinite(anomaly_map).all()):
            raise XrayError(f"{self.bundle.path} gives no finite score or map for a picture of {_size(image)} pixels.")
        scale = self.bundle.image
        return Prediction(
            score=_raw(value, scale).item(),
            normalised=value if scale.limits is not None else None,
            threshold=scale.threshold if threshold is None else threshold,
            heat_map=None if anomaly_map is None else self._heat_map(anomaly_map, image),
            pixel_threshold=self.bundle.pixel.threshold,
        )

    def _infer(self, image: NDArray[np.float32]) -> Any:  # noqa: ANN401  # openvino's mapping of outputs is untyped
        batch = np.repeat(image[np.newaxis, np.newaxis], 3, axis=1)
        try:
            # A request of its own: the one inside the compiled model refuses a second thread.
            return self._compiled.create_infer_request().infer(batch)
        except RuntimeError as error:
            raise XrayError(f"{self.bundle.path} cannot process a picture of {_size(image)} pixels.") from error

    def _heat_map(self, anomaly_map: NDArray[np.float32], image: Radiograph) -> NDArray[np.float32]:
        raw = _raw(anomaly_map.reshape(anomaly_map.shape[-2:]), self.bundle.pixel)
        height, width = image.shape
        return to_picture(raw.astype(np.float32), height, width, self.bundle.settings.get("padding", CENTRED))


def compile_model(
    path: str | Path, *, device: str = "CPU", threads: int | None = None, arithmetic: str = "f32"
) -> openvino.CompiledModel:
    """Loads a model, by default with float32 arithmetic, so that it answers as torch does.

    Args:
        path: ``.xml`` or ``.onnx`` file.
        device: OpenVINO device, e.g. ``CPU`` or ``GPU``.
        threads: Number of CPU threads; ``None`` leaves it to OpenVINO.
        arithmetic: Precision to compute in, as OpenVINO calls it: ``f32``, or ``bf16`` where the device has it.

    Returns:
        The model; it keeps no cache on disk.

    Raises:
        XrayError: The device does not exist or lacks the arithmetic, or the file cannot be loaded.
    """
    core = openvino.Core()
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": arithmetic}
    if threads is not None:
        if threads < 1:
            raise XrayError(f"{threads} threads cannot compute anything: give 1 or more.")
        settings["INFERENCE_NUM_THREADS"] = threads
    if device.split(".")[0] not in {name.split(".")[0] for name in core.available_devices}:
        raise XrayError(f"There is no device {device}; choose one of {', '.join(core.available_devices)}.")
    if arithmetic != "f32" and arithmetic.upper() not in core.get_property(device, "OPTIMIZATION_CAPABILITIES"):
        raise XrayError(f"The device {device} cannot compute in {arithmetic}; choose the precision fp32.")
    try:
        return core.compile_model(core.read_model(Path(path)), device, settings)
    except RuntimeError as error:
        raise XrayError(f"{path} cannot be loaded on {device}: it is damaged or of an unknown format.") from error


def unnormalise(values: ArrayLike, threshold: float | None, minimum: float, maximum: float) -> NDArray[np.float64]:
    """Takes back the normalisation 1/2 + x / (1 + 2 |x|) with x = (raw - threshold) / (maximum - minimum).

    With y = value - 1/2 that is x = y / (1 - 2 |y|) and raw = threshold + x (maximum - minimum).

    Args:
        values: Normalised values, inside (0, 1), of any shape. Float32 reaches 0 and 1 for raw values millions of
            ranges away; these come back as the farthest value that it can tell apart.
        threshold: Raw value that became 1/2; ``None`` for the middle of ``minimum`` and ``maximum``, which the
            normalisation takes where there is no threshold.
        minimum: Smallest raw value of the validation set.
        maximum: Largest raw value of the validation set.

    Returns:
        Raw values of the same shape.
    """
    centre = (minimum + maximum) / 2 if threshold is None else threshold
    centred = np.clip(np.asarray(values, dtype=np.float64) - 0.5, -_LARGEST_CENTRED, _LARGEST_CENTRED)
    return np.asarray(centre + centred / (1 - 2 * np.abs(centred)) * (maximum - minimum))


def to_picture(
    anomaly_map: NDArray[np.float32], height: int, width: int, padding: str = CENTRED
) -> NDArray[np.float32]:
    """Lays a map of the padded square back onto the picture.

    The graph pads a picture to a square and resizes it; this resizes the map to that square and cuts the padding off.

    Args:
        anomaly_map: (S, S).
        height: Height H of the picture in pixels.
        width: Width W of the picture in pixels.
        padding: ``centred``, an odd remainder at the bottom or right, or ``uniform``, all of it there.

    Returns:
        (H, W).
    """
    side = max(height, width)
    shrinks = side < max(anomaly_map.shape)
    square = cv2.resize(anomaly_map, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    top, left = ((side - height) // 2, (side - width) // 2) if padding == CENTRED else (0, 0)
    return np.ascontiguousarray(square[top : top + height, left : left + width], dtype=np.float32)


def _raw(values: ArrayLike, scale: Scale) -> NDArray[np.float64]:
    """Raw values of what the graph returned."""
    if scale.limits is None:
        return np.asarray(values, np.float64)
    return unnormalise(values, scale.threshold, *scale.limits)


def _size(image: NDArray[Any]) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
