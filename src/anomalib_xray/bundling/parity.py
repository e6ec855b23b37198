"""How far the forms of one model lie apart: torch against ONNX and OpenVINO in all precisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.bundling.answers import Run
from anomalib_xray.bundling.pictures import Pictures
from anomalib_xray.components.export import PARITY_TOLERANCE
from anomalib_xray.io.progress import track

PARITY_PICTURES = 200
"""Pictures that parity is measured on, at most."""


def measure_parity(
    reference: Run, others: Mapping[str, Run], radiographs: Sequence[Pictures], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Compares what several forms of a model answer for the same pictures.

    The difference of a score is ``|a - b|`` relative to ``|a|`` or, where that is larger, to the median of ``|a|`` over
    the pictures, because scores that change their sign pass 0. The difference of a map is ``max|a - b| / max|a|``.

    Args:
        reference: Torch.
        others: The other forms by name.
        radiographs: What to compare on; of their pictures the first :data:`PARITY_PICTURES`.
        names: Names of the scores, in order.

    Returns:
        For each form: ``images`` (how many pictures), ``scores`` (largest difference of each), ``score`` (the largest
        of these), ``map`` (``None`` without a map), ``tolerance`` and ``passed``.
    """
    expected: list[NDArray[np.float64]] = []
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in others}
    maps: dict[str, list[float]] = {name: [] for name in others}
    pictures = islice(chain.from_iterable(radiograph.read() for radiograph in radiographs), PARITY_PICTURES)
    count = min(sum(len(radiograph.views) for radiograph in radiographs), PARITY_PICTURES)
    for picture in track(pictures, "Comparing with torch", count):
        scores, anomaly_map = reference(picture)
        expected.append(scores)
        for name, run in others.items():
            other_scores, other_map = run(picture)
            found[name].append(other_scores)
            if anomaly_map is not None and other_map is not None:
                maps[name].append(map_difference(anomaly_map, other_map))
    return {name: _report(expected, found[name], maps[name], names) for name in others}


def score_differences(expected: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest relative difference of each score.

    Args:
        expected: ``(N, K)``.
        found: The same of another form.

    Returns:
        ``(K,)``.
    """
    size = np.abs(expected)
    scale = np.maximum(size, np.median(size, axis=0)).clip(min=np.finfo(np.float32).tiny)
    return np.asarray((np.abs(expected - found) / scale).max(axis=0))


def map_difference(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Largest difference of two maps ``(S, S)`` relative to the largest magnitude of the first."""
    scale = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    return float(np.abs(expected.astype(np.float64) - found).max()) / scale


def _report(
    expected: Iterable[NDArray[np.float64]],
    found: Iterable[NDArray[np.float64]],
    maps: Sequence[float],
    names: Sequence[str],
) -> dict[str, Any]:
    differences = score_differences(np.stack(list(expected)), np.stack(list(found)))
    largest, largest_map = float(differences.max()), float(np.max(maps)) if maps else None
    return {
        "images": len(list(expected)),
        "score": largest,
        "map": largest_map,
        "scores": dict(zip(names, differences.tolist(), strict=True)),
        "tolerance": PARITY_TOLERANCE,
        "passed": largest <= PARITY_TOLERANCE and (largest_map or 0.0) <= PARITY_TOLERANCE,
    }
