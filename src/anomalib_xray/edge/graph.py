"""Models of bundles, loaded and ready: a picture in, raw scores and a raw map on its own pixels out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.edge.bundle import Bundle
from anomalib_xray.edge.runtime import CENTRED, Runtime, compile_model, to_picture
from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph, to_unit_interval


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says of one picture.

    Attributes:
        scores: Raw scores by name, higher = more anomalous; finite.
        heat_map: Raw anomaly map on the picture's own pixels, (H, W) float32, finite; ``None`` if there is none.
        normalised: The deciding score as a stock export returns it; ``None`` if that is raw.
    """

    scores: dict[str, float]
    heat_map: NDArray[np.float32] | None
    normalised: float | None = None


class Graph(Protocol):
    """A loaded model. May be used by several threads at once."""

    def __call__(self, image: Radiograph) -> Answer:
        """Scores a picture (H, W), uint8 or uint16.

        Raises:
            XrayError: The model cannot process it, or what comes out is not finite.
        """


class RawGraph:
    """A model of format 2, whose outputs are ``scores`` (1, K) and, if it has a map, ``anomaly_map`` (1, 1, S, S).

    Args:
        path: The ``.xml`` file.
        scores: Names of the K scores, in order.
        device: OpenVINO device, e.g. ``CPU`` or ``GPU``.
        threads: Number of CPU threads; ``None`` leaves it to OpenVINO.
        arithmetic: OpenVINO's hint of the precision to compute in.
        padding: Where a picture lies in the square of the map; see :func:`~anomalib_xray.edge.runtime.to_picture`.

    Raises:
        XrayError: The device does not exist, or the model cannot be loaded or has other outputs.
    """

    def __init__(
        self,
        path: Path,
        scores: Sequence[str],
        *,
        device: str,
        threads: int | None,
        arithmetic: str,
        padding: str = CENTRED,
    ) -> None:
        self._path = path
        self._padding = padding
        self._names = tuple(scores)
        self._compiled = compile_model(path, device=device, threads=threads, arithmetic=arithmetic)
        outputs = {name for output in self._compiled.outputs for name in output.names}
        if "scores" not in outputs:
            raise XrayError(f"{path} has no output 'scores': make the bundle again.")
        self._has_map = "anomaly_map" in outputs

    def __call__(self, image: Radiograph) -> Answer:
        """As :meth:`Graph.__call__`."""
        outputs = self._infer(image)
        values = np.asarray(outputs["scores"], np.float64).reshape(-1)
        if len(values) != len(self._names):
            raise XrayError(f"{self._path} gives {len(values)} scores instead of {len(self._names)}: make it again.")
        anomaly_map = np.asarray(outputs["anomaly_map"], np.float32) if self._has_map else None
        if not np.isfinite(values).all() or (anomaly_map is not None and not np.isfinite(anomaly_map).all()):
            raise XrayError(f"{self._path} gives no finite score or map for a picture of {_size(image)} pixels.")
        return Answer(
            scores=dict(zip(self._names, values.tolist(), strict=True)),
            heat_map=None
            if anomaly_map is None
            else to_picture(anomaly_map.reshape(anomaly_map.shape[-2:]), image.shape[0], image.shape[1], self._padding),
        )

    def _infer(self, image: Radiograph) -> Any:  # noqa: ANN401  # openvino's mapping of outputs is untyped
        batch = np.repeat(to_unit_interval(image)[np.newaxis, np.newaxis], 3, axis=1)
        try:
            # A request of its own: the one inside the compiled model refuses a second thread.
            return self._compiled.create_infer_request().infer(batch)
        except RuntimeError as error:
            raise XrayError(f"{self._path} cannot process a picture of {_size(image)} pixels.") from error


class StockGraph:
    """A model of format 1: a stock export, whose graph normalises.

    Args:
        bundle: The export.
        device: OpenVINO device, e.g. ``CPU`` or ``GPU``.
        threads: Number of CPU threads; ``None`` leaves it to OpenVINO.
        arithmetic: OpenVINO's hint of the precision to compute in.

    Raises:
        XrayError: The device does not exist, or the model cannot be loaded or does not score pictures.
    """

    def __init__(self, bundle: Bundle, *, device: str, threads: int | None, arithmetic: str) -> None:
        self._runtime = Runtime(bundle, device=device, threads=threads, arithmetic=arithmetic)

    def __call__(self, image: Radiograph) -> Answer:
        """As :meth:`Graph.__call__`."""
        prediction = self._runtime.predict(image)
        return Answer({self._runtime.bundle.score: prediction.score}, prediction.heat_map, prediction.normalised)


def _size(image: Radiograph) -> str:
    return f"{image.shape[1]} x {image.shape[0]}"
