"""Scores of radiographs, and the thresholds and percentiles of normal ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.bundling.images import ABNORMAL, PreparedSample
from anomalib_xray.edge.description import QUANTILES
from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.conformal import normal_patients, patients_of, promised_threshold
from anomalib_xray.io.progress import track
from anomalib_xray.training.export import Run, fitted_thresholds
from anomalib_xray.training.post_processor import IMAGE_QUANTILE, PIXEL_QUANTILE, PIXELS_PER_IMAGE, XrayPostProcessor

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule

Foreground = Callable[[NDArray[np.float32], tuple[int, int]], NDArray[np.bool_]]
"""Mask of the foreground of a picture, at the size of its map."""


@dataclass
class NormalValues:
    """Scores and map values of normal images.

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
        """A quantile of the foreground's map values; ``None`` without any."""
        pixels = np.concatenate(self.pixels or [np.empty(0, np.float32)])
        return float(np.quantile(pixels, quantile)) if len(pixels) else None


def score_all(
    run: Run, samples: Sequence[PreparedSample], precision: str, foreground: Foreground | None = None
) -> tuple[NDArray[np.float64], NormalValues]:
    """Scores radiographs; one of several views is as anomalous as its worst.

    Returns:
        Scores ``(N, K)``, and the values of the images that are not known to be abnormal; those of their maps only
        with a ``foreground``.
    """
    normal = NormalValues()
    scores = []
    for sample in track(samples, f"Scoring ({precision})"):
        views = list(sample.read())
        answers = [run(view) for view in views]
        of_image = np.stack([answer[0] for answer in answers]).max(axis=0)
        maps = [anomaly_map for _, anomaly_map in answers if anomaly_map is not None]
        if not all(np.isfinite(values).all() for values in (of_image, *maps)):
            raise XrayError(f"The model gives no finite score or map for {sample.path} ({precision}): train it anew.")
        scores.append(of_image)
        if sample.label != ABNORMAL:
            normal.scores.append(of_image)
            if foreground is not None and maps:
                for view, anomaly_map in zip(views, maps, strict=True):
                    normal.add_map(anomaly_map, foreground(view, (anomaly_map.shape[0], anomaly_map.shape[1])))
    return np.stack(scores), normal


@dataclass(frozen=True)
class Promise:
    """Thresholds that at most a share of new normal patients reaches.

    Attributes:
        false_alarms: The share.
        scores: The highest of each score over the images of each normal patient, ``(n, K)``.
        whose: Those patients in words.
        replaces: Whether its thresholds stand in the place of the model's own.
    """

    false_alarms: float
    scores: NDArray[np.float64]
    whose: str
    replaces: bool

    @classmethod
    def of(
        cls,
        model: AnomalibModule,
        false_alarms: float | None,
        samples: Sequence[PreparedSample],
        scores: NDArray[np.float64],
    ) -> Promise | None:
        """The promise that is asked for, or else the model's own, if it has one.

        Args:
            model: The model.
            false_alarms: The share that is asked for.
            samples: The radiographs.
            scores: Their scores, ``(N, K)``.
        """
        own = getattr(model.post_processor, "false_alarms", None)
        share = own if false_alarms is None else false_alarms
        if share is None:
            return None
        patients = patients_of((str(sample.path) for sample in samples), (sample.patient for sample in samples))
        highest = normal_patients(scores, patients, (sample.label == ABNORMAL for sample in samples))
        known = all(sample.patient for sample in samples)
        whose = f"{len(highest)} normal {'patients' if known else 'images or patients'}"
        return cls(share, highest, whose, replaces=false_alarms is not None)

    def thresholds(self) -> list[float]:
        """The threshold of each score, K of them."""
        return [promised_threshold(column, self.false_alarms) for column in self.scores.T]

    def __str__(self) -> str:
        """The promise in words."""
        return f"at most {100 * self.false_alarms:g} % of new normal patients reach it"


def statistics_of(
    model: AnomalibModule,
    names: Sequence[str],
    values: NormalValues,
    *,
    recompute: bool,
    promise: Promise | None = None,
) -> dict[str, Any]:
    """The keys ``thresholds``, ``pixel_threshold``, ``distribution`` and ``map_limits`` of ``bundle.json``.

    With ``recompute`` the thresholds of the model's own validation are left out.
    """
    chosen, pixel = (None, None) if recompute else fitted_thresholds(model)
    image_quantile, pixel_quantile = _quantiles_of(model)
    anew = values.threshold(image_quantile).tolist() if promise is None else promise.thresholds()
    thresholds = dict(zip(names, anew, strict=True))
    if chosen is not None and not (promise and promise.replaces):
        thresholds[model.hparams["score"]] = chosen
    return {
        "thresholds": thresholds,
        "pixel_threshold": values.pixel_threshold(pixel_quantile) if pixel is None else pixel,
        "distribution": dict(zip(names, values.quantiles().tolist(), strict=True)),
        "map_limits": values.limits,
    }


def _quantiles_of(model: AnomalibModule) -> tuple[float, float]:
    """Shares of normal images and of their pixels below the model's thresholds."""
    processor = model.post_processor
    if not isinstance(processor, XrayPostProcessor):
        return IMAGE_QUANTILE, PIXEL_QUANTILE
    return processor.image_quantile, processor.pixel_quantile


def threshold_origin(
    model: AnomalibModule, names: Sequence[str], *, recompute: bool, promise: Promise | None = None
) -> dict[str, str]:
    """Origin of the threshold of each score, in words."""
    below = f"{100 * _quantiles_of(model)[0]:g} % of the normal images lie below"
    origin = dict.fromkeys(names, f"{promise}, by {promise.whose}" if promise else below)
    if not recompute and fitted_thresholds(model)[0] is not None and not (promise and promise.replaces):
        own = f": {promise}" if promise else ""
        origin[model.hparams["score"]] = f"the checkpoint's validation{own}"
    return origin
