"""Predict with a bundle: a raw radiograph in, a :class:`~anomalib_xray.edge.result.Result` out.

Example:
    >>> predictor = open_predictor("bundles/cae")
    >>> result = predictor.predict(read_radiograph("hand.dcm"), threshold=0.02)
    >>> result.value, result.percentile, result.is_anomalous
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from anomalib_xray.edge.device_bundle import DeviceBundle
from anomalib_xray.edge.graph import Answer, Graph, RawGraph, StockGraph
from anomalib_xray.edge.heat_map import on_original, outline_of
from anomalib_xray.edge.inner_files import check_inner_files
from anomalib_xray.edge.result import Result, View
from anomalib_xray.edge.runtime import CENTRED
from anomalib_xray.errors import XrayError
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.preparation.pipeline import Pipeline, Prepared

_BF16 = "bf16"
"""Precision that is no model of its own: the fp32 model, computed in 16 bits with the exponents of 32."""

_ROUNDING = 1e-3
"""Share of the range of normal scores by which one may be below them all; precisions and machines differ by less."""

_preparing = Lock()
"""One picture at a time is prepared in a process: the networks of the steps are shared and serve one thread each."""


class Predictor:
    """A bundle, loaded and ready. May be used by several threads at once; they take turns in the preparation.

    Args:
        bundle: The bundle.
        precision: One of ``bundle.models``, or ``bf16``; the bundle's own by default.
        device: OpenVINO device, e.g. ``CPU`` or ``GPU``.
        threads: Number of CPU threads of the model; ``None`` leaves it to OpenVINO.
        score: Name of the score that decides; the bundle's own by default.

    Attributes:
        bundle: The bundle.
        precision: The precision in use.
        score: Name of the score that decides.

    Raises:
        XrayError: The precision, the device or the score does not exist, or the model or the preparation cannot be
            loaded.
    """

    def __init__(
        self,
        bundle: DeviceBundle,
        *,
        precision: str | None = None,
        device: str = "CPU",
        threads: int | None = None,
        score: str | None = None,
    ) -> None:
        self.bundle = bundle
        self.precision = _chosen(precision or bundle.precision, [*bundle.models, _BF16], "precision", bundle)
        self.score = _chosen(score or bundle.score, bundle.scores, "score", bundle)
        self._pipeline = _pipeline(bundle)
        self._graph = _graph(bundle, self.precision, device, threads)

    @property
    def preparation(self) -> tuple[str, ...]:
        """What the prepared pictures depend on: predictors that agree on it can share them."""
        return () if self._pipeline is None else tuple(self._pipeline.fingerprints(""))

    def prepare(self, image: Radiograph) -> list[Prepared]:
        """Makes the pictures that the model is shown.

        Args:
            image: (H, W), uint8 or uint16, as read from the file.

        Returns:
            One picture, or several where the preparation divides it; the radiograph itself if there is no preparation.

        Raises:
            XrayError: The picture cannot be prepared.
        """
        if self._pipeline is None:
            return [Prepared(image, (), np.eye(3))]
        with _preparing:
            return self._pipeline.prepare(image)

    def predict(
        self,
        image: Radiograph,
        *,
        threshold: float | None = None,
        stages: bool = False,
        tags: Mapping[str, str] | None = None,
        prepared: Sequence[Prepared] | None = None,
    ) -> Result:
        """Prepares and scores one radiograph.

        Args:
            image: (H, W), uint8 or uint16, as read from the file.
            threshold: Raw value of the deciding score to decide by instead of the bundle's own.
            stages: Whether the views keep the picture after each step of the preparation.
            tags: What the file says of the radiograph, as of :func:`anomalib_xray.edge.scope.tags_of`.
            prepared: What :meth:`prepare` returned for this image, of this predictor or one of the same preparation.

        Returns:
            The result; its heat map has the shape of ``image``.

        Raises:
            XrayError: The picture has another depth, cannot be prepared or processed, the threshold is not finite, or
                what comes out is not finite.
        """
        if threshold is not None and not math.isfinite(threshold):
            raise XrayError(f"The threshold {threshold} decides nothing: give a finite raw score.")
        prepared = prepared or self.prepare(image)
        answers = [self._graph(part.image) for part in prepared]
        scores = {name: max(answer.scores[name] for answer in answers) for name in self.bundle.scores}
        flags = list(dict.fromkeys(flag for part in prepared for flag in part.flags))
        reasons = self._reasons(scores[self.score], flags, tags or {}, (image.shape[0], image.shape[1]))
        limit = self.bundle.thresholds.get(self.score) if threshold is None else threshold
        return Result(
            model=self.bundle.model,
            scores=scores,
            percentiles={name: self._percentile(name, value) for name, value in scores.items()},
            score=self.score,
            value=scores[self.score],
            threshold=limit,
            is_anomalous=None if limit is None or reasons else scores[self.score] >= limit,
            heat_map=on_original([answer.heat_map for answer in answers], prepared, (image.shape[0], image.shape[1])),
            pixel_threshold=self.bundle.pixel_threshold,
            map_limits=self.bundle.map_limits,
            views=self._views(image, prepared, answers, stages=stages),
            flags=flags,
            normalised=answers[0].normalised,
            not_comparable=reasons,
            bundle_digest=self.bundle.digest,
        )

    def _reasons(
        self, value: float, flags: Sequence[str], tags: Mapping[str, str], shape: tuple[int, int]
    ) -> tuple[str, ...]:
        """Why the radiograph must not be compared with those that the model was made for."""
        reasons = self.bundle.scope.contradictions(tags, shape)
        failed = [] if self._pipeline is None else [flag for flag in flags if flag in self._pipeline.failures]
        if failed:
            reasons.append(f"the preparation failed ({', '.join(failed)})")
        quantiles = self.bundle.distribution.get(self.score)
        if quantiles is not None and value < quantiles[0] - _ROUNDING * (quantiles[-1] - quantiles[0]):
            count = self.bundle.normal_images
            reasons.append(f"its score is below those of all {'' if count is None else f'{count} '}normal images")
        return tuple(reasons)

    def _percentile(self, name: str, value: float) -> float | None:
        quantiles = self.bundle.distribution.get(name)
        return None if quantiles is None else percentile_of(value, quantiles)

    def _views(
        self, image: Radiograph, prepared: Sequence[Prepared], answers: Sequence[Answer], *, stages: bool
    ) -> list[View]:
        return [
            View(
                name=f"view {number}",
                image=part.image,
                scores=answer.scores,
                heat_map=answer.heat_map,
                stages=self._stages(image, part) if stages else [],
                flags=part.flags,
                outline=None if self._pipeline is None else outline_of(part),
            )
            for number, (part, answer) in enumerate(zip(prepared, answers, strict=True), 1)
        ]

    def _stages(self, image: Radiograph, part: Prepared) -> list[tuple[str, Radiograph]]:
        """The picture after each step, by the step's name."""
        if self._pipeline is None:
            return []
        _, *states = self._pipeline.stages(image, part.history)
        return [(action.step, state.image) for action, state in zip(part.history, states, strict=True)]


def open_predictor(
    path: str | Path,
    *,
    precision: str | None = None,
    device: str = "CPU",
    threads: int | None = None,
    score: str | None = None,
) -> Predictor:
    """Checks and loads a bundle of any format.

    Args:
        path: Folder of a bundle, or of a stock export or its run.
        precision: ``fp32``, ``fp16`` or ``int8`` where the bundle holds it, or ``bf16``, which is the fp32 model
            computed in bfloat16; the bundle's own by default. Only fp32 answers as torch does.
        device: OpenVINO device, e.g. ``CPU`` or ``GPU``.
        threads: Number of CPU threads of the model; ``None`` leaves it to OpenVINO.
        score: Name of the score that decides; the bundle's own by default.

    Returns:
        The predictor.

    Raises:
        XrayError: The bundle is incomplete, changed or broken, or does not have what is asked for.
    """
    return Predictor(DeviceBundle.open(path), precision=precision, device=device, threads=threads, score=score)


def percentile_of(value: float, quantiles: Sequence[float]) -> float:
    """Share of normal images with a lower score, in per cent.

    Interpolated between the quantiles; where several of them are equal, their middle.

    Args:
        value: A score.
        quantiles: Of the normal images at equal steps from 0 to 100 %, rising; at least two.

    Returns:
        0 below the first quantile, 100 above the last one.
    """
    shares = np.linspace(0, 100, len(quantiles))
    values, place = np.unique(quantiles, return_inverse=True)
    middles = np.bincount(place, weights=shares) / np.bincount(place)
    return float(np.interp(value, values, middles, left=0, right=100))


def _chosen(name: str, known: Sequence[str], kind: str, bundle: DeviceBundle) -> str:
    if name not in known:
        left_out = bundle.about.get("precisions", {}).get(name, {}) if kind == "precision" else {}
        reason = f" ({str(left_out['reason']).rstrip('.')})" if "reason" in left_out else ""
        raise XrayError(f"The bundle {bundle.folder} has no {kind} {name!r}{reason}; choose one of {', '.join(known)}.")
    return name


def _pipeline(bundle: DeviceBundle) -> Pipeline | None:
    if bundle.preparation is None:
        return None
    check_inner_files(bundle)
    return Pipeline.load(bundle.preparation)


def _graph(bundle: DeviceBundle, precision: str, device: str, threads: int | None) -> Graph:
    arithmetic = "bf16" if precision == _BF16 else "f32"
    if bundle.source is not None:
        return StockGraph(bundle.source, device=device, threads=threads, arithmetic=arithmetic)
    model = "fp32" if precision == _BF16 else precision
    if model not in bundle.models:
        raise XrayError(f"The bundle {bundle.folder} has no fp32 model, which {precision} computes with.")
    padding = bundle.settings.get("padding", CENTRED)
    return RawGraph(
        bundle.models[model], bundle.scores, device=device, threads=threads, arithmetic=arithmetic, padding=padding
    )
