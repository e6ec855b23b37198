"""What a compiled graph answers: the scores of radiographs, and what their normal ones say of thresholds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openvino  # type: ignore[import-untyped]  # openvino ships no types
from numpy.typing import NDArray

from anomalib_xray.bundling.graph import INPUT, MAP, SCORES
from anomalib_xray.bundling.images import ABNORMAL
from anomalib_xray.bundling.pictures import Pictures
from anomalib_xray.edge.manifest import QUANTILES
from anomalib_xray.errors import XrayError
from anomalib_xray.io.progress import track
from anomalib_xray.post_processing import PIXELS_PER_IMAGE

Answer = tuple[NDArray[np.float64], NDArray[np.float32] | None]
"""Raw scores ``(K,)`` and raw map ``(S, S)`` of one picture ``(H, W)``."""

Run = Callable[[NDArray[np.float32]], Answer]
"""Something that answers for a picture."""

Foreground = Callable[[NDArray[np.float32], tuple[int, int]], NDArray[np.bool_]]
"""Something that tells where a picture shows something, at the size of its map."""

F32: Mapping[str, str] = {"INFERENCE_PRECISION_HINT": "f32"}
"""OpenVINO's settings for the arithmetic that agrees with torch; by default it takes bfloat16 where there is."""


@dataclass
class NormalValues:
    """What normal images are like.

    Attributes:
        scores: Of each image, ``(K,)``.
        pixels: Map values of the foreground, of each picture at most :data:`PIXELS_PER_IMAGE` at even ranks.
        limits: Smallest and largest map value; ``None`` without a map.
    """

    scores: list[NDArray[np.float64]] = field(default_factory=list)
    pixels: list[NDArray[np.float32]] = field(default_factory=list)
    limits: tuple[float, float] | None = None

    def add_map(self, anomaly_map: NDArray[np.float32], foreground: NDArray[np.bool_]) -> None:
        """Counts a map ``(S, S)``; the background has no part in the pixels, and the foreground may be exactly 0."""
        values = anomaly_map[foreground]
        ranks = np.linspace(0, max(len(values) - 1, 0), min(len(values), PIXELS_PER_IMAGE)).round().astype(np.intp)
        self.pixels.append(np.sort(values)[ranks])
        lowest, highest = float(anomaly_map.min()), float(anomaly_map.max())
        before = self.limits or (lowest, highest)
        self.limits = min(before[0], lowest), max(before[1], highest)

    def quantiles(self) -> NDArray[np.float64]:
        """Quantiles 0, 1, ..., 100 % of each score over the images, ``(K, 101)``."""
        return np.quantile(np.stack(self.scores), np.linspace(0, 1, QUANTILES), axis=0).T

    def threshold(self, quantile: float) -> NDArray[np.float64]:
        """A quantile of each score over the images, ``(K,)``."""
        return np.asarray(np.quantile(np.stack(self.scores), quantile, axis=0))

    def pixel_threshold(self, quantile: float) -> float | None:
        """A quantile of the foreground's map values; ``None`` where there is none."""
        pixels = np.concatenate(self.pixels) if self.pixels else np.empty(0)
        return float(np.quantile(pixels, quantile)) if len(pixels) else None


def open_graph(model: openvino.Model | Path, settings: Mapping[str, str] = F32) -> Run:
    """Compiles a graph.

    Args:
        model: The graph or its file.
        settings: Of OpenVINO; :data:`F32`, or none for what OpenVINO takes by itself.

    Returns:
        What answers for a picture.
    """
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(model) if isinstance(model, Path) else model, "CPU", dict(settings))
    has_map = any(MAP in output.names for output in compiled.outputs)

    def run(picture: NDArray[np.float32]) -> Answer:
        outputs: Any = compiled({INPUT: graph_input(picture)})
        return outputs[SCORES][0].astype(np.float64), outputs[MAP][0, 0].copy() if has_map else None

    return run


def graph_input(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """A picture ``(H, W)`` as the graph takes it, ``(1, 3, H, W)``."""
    return np.repeat(picture[np.newaxis, np.newaxis], 3, axis=1)


def score_all(
    run: Run, pictures: Sequence[Pictures], what: str, foreground: Foreground | None = None
) -> tuple[NDArray[np.float64], NormalValues]:
    """Scores radiographs; one of several views is as anomalous as its worst.

    Args:
        run: The graph.
        pictures: The radiographs.
        what: What the progress calls it.
        foreground: Tells which values of the maps count; without it none does.

    Returns:
        Scores ``(N, K)``, and what the images that are not known to be abnormal are like.

    Raises:
        XrayError: A score or map is not finite.
    """
    normal = NormalValues()
    scores = []
    for radiograph in track(pictures, f"Scoring ({what})"):
        views = list(radiograph.read())
        answers = [run(picture) for picture in views]
        of_image = np.stack([answer[0] for answer in answers]).max(axis=0)
        maps = [
            (view, anomaly_map)
            for view, (_, anomaly_map) in zip(views, answers, strict=True)
            if anomaly_map is not None
        ]
        if not np.isfinite(of_image).all() or not all(np.isfinite(anomaly_map).all() for _, anomaly_map in maps):
            raise XrayError(f"The model gives no finite score or map for {radiograph.path} ({what}): train it anew.")
        scores.append(of_image)
        if radiograph.label != ABNORMAL:
            normal.scores.append(of_image)
            if foreground is not None:
                for view, anomaly_map in maps:
                    normal.add_map(anomaly_map, foreground(view, (anomaly_map.shape[0], anomaly_map.shape[1])))
    return np.stack(scores), normal
