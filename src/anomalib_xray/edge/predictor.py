"""Predict with a bundle: a raw radiograph in, a :class:`~anomalib_xray.edge.result.Result` out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.edge.bundle import DESCRIPTION_NAME, Bundle
from anomalib_xray.edge.description import is_inner_path
from anomalib_xray.edge.graph import CENTRED, Graph, raw_values, to_picture
from anomalib_xray.edge.result import RankScale, Result, View
from anomalib_xray.errors import XrayError
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.io.read import to_unit_interval
from anomalib_xray.preparation.mapping import to_original
from anomalib_xray.preparation.pipeline import Pipeline, Prepared
from anomalib_xray.preparation.settings import path_settings, read_settings, step_class
from anomalib_xray.preparation.step import Mask

_BF16 = "bf16"
"""Precision without a model of its own: the fp32 model, computed in 16 bits with the exponents of 32."""

_ROUNDING = 1e-3
"""Share of the range of normal scores by which one may be below them all; precisions and machines differ by less."""

_preparing = Lock()
"""One picture at a time is prepared in a process: the networks of the steps are shared and serve one thread each."""


class Predictor:
    """A bundle, loaded and ready. May be used by several threads at once; they take turns in the preparation.

    Args:
        bundle: The bundle.
        precision: ``fp32``, ``fp16`` or ``int8`` where the bundle holds it, or ``bf16``, which is the fp32 model
            computed in bfloat16; the bundle's own by default. Only fp32 agrees with torch.
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
        bundle: Bundle,
        *,
        precision: str | None = None,
        device: str = "CPU",
        threads: int | None = None,
        score: str | None = None,
    ) -> None:
        self.bundle = bundle
        self.precision = _chosen(precision or bundle.precision, [*bundle.models, _BF16], "precision", bundle)
        self.score = _chosen(score or bundle.score, bundle.scores, "score", bundle)
        _check_inner_files(bundle)
        self._pipeline = None if bundle.pipeline is None else Pipeline.load(bundle.pipeline)
        model = "fp32" if self.precision == _BF16 else self.precision
        if model not in bundle.models:
            raise XrayError(f"The bundle {bundle.folder} has no fp32 model, which {self.precision} computes with.")
        arithmetic = _BF16 if self.precision == _BF16 else "f32"
        self._graph = Graph(bundle.models[model], device=device, threads=threads, arithmetic=arithmetic)

    @property
    def preparation(self) -> tuple[str, ...]:
        """Fingerprints of the preparation: predictors that agree on them can share prepared pictures."""
        return () if self._pipeline is None else tuple(self._pipeline.fingerprints(""))

    def prepare(self, image: Radiograph) -> list[Prepared]:
        """Makes the pictures that the model is shown.

        Args:
            image: (H, W), uint8 or uint16, as read from the file.

        Returns:
            One picture, or several where the preparation divides it; without a preparation the radiograph itself.

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
            tags: Tags of the file, as of :func:`anomalib_xray.edge.scope.tags_of`.
            prepared: Pictures that :meth:`prepare` returned for this image, here or with the same preparation.

        Returns:
            The result; its heat map has the shape of ``image``.

        Raises:
            XrayError: The picture has another depth or cannot be prepared or processed, or the threshold, a score or
                the map is not finite.
        """
        if threshold is not None and not math.isfinite(threshold):
            raise XrayError(f"The threshold {threshold} decides nothing: give a finite raw score.")
        prepared = prepared or self.prepare(image)
        views, normalised = [], None
        for number, part in enumerate(prepared, 1):
            view, normalised = self._view(f"view {number}", image, part, stages=stages)
            views.append(view)
        shape = image.shape[0], image.shape[1]
        scores = {name: max(view.scores[name] for view in views) for name in self.bundle.scores}
        flags = list(dict.fromkeys(flag for part in prepared for flag in part.flags))
        reasons = self._reasons(scores[self.score], flags, tags or {}, shape)
        limit = self.bundle.thresholds.get(self.score) if threshold is None else threshold
        return Result(
            model=self.bundle.model,
            scores=scores,
            percentiles={name: self._percentile(name, value) for name, value in scores.items()},
            score=self.score,
            value=scores[self.score],
            threshold=limit,
            is_anomalous=None if limit is None or reasons else scores[self.score] >= limit,
            heat_map=on_original([view.heat_map for view in views], prepared, shape),
            pixel_threshold=self.bundle.pixel_threshold,
            map_limits=self.bundle.map_limits,
            views=views,
            flags=flags,
            normalised=normalised,
            not_comparable=reasons,
            bundle_digest=self.bundle.digest,
            normal=self.bundle.normal_units,
        )

    def _view(self, name: str, image: Radiograph, part: Prepared, *, stages: bool) -> tuple[View, float | None]:
        """Scores one picture; returns the score as a stock export normalises it, too."""
        bundle, picture = self.bundle, part.image
        values, anomaly_map = self._graph(to_unit_interval(picture))
        if len(values) != len(bundle.scores):
            raise XrayError(
                f"{bundle.folder} gives {len(values)} scores instead of {len(bundle.scores)}: make the bundle again."
            )
        if not np.isfinite(values).all() or (anomaly_map is not None and not np.isfinite(anomaly_map).all()):
            size = f"{picture.shape[1]} x {picture.shape[0]}"
            raise XrayError(f"{bundle.folder} gives no finite score or map for a picture of {size} pixels.")
        normalised = None if bundle.normalization is None or bundle.normalization.image is None else float(values[0])
        scores, raw_map = raw_values(bundle, values, anomaly_map)
        padding = bundle.settings.get("padding", CENTRED)
        view = View(
            name=name,
            image=picture,
            scores=dict(zip(bundle.scores, scores.tolist(), strict=True)),
            heat_map=None if raw_map is None else to_picture(raw_map, picture.shape[0], picture.shape[1], padding),
            stages=self._stages(image, part) if stages else [],
            flags=part.flags,
            outline=None if self._pipeline is None else outline_of(part),
        )
        return view, normalised

    def _reasons(
        self, value: float, flags: Sequence[str], tags: Mapping[str, str], shape: tuple[int, int]
    ) -> tuple[str, ...]:
        """Reasons against comparing the radiograph with those that the model was made for."""
        reasons = self.bundle.scope.contradictions(tags, shape)
        failed = [] if self._pipeline is None else [flag for flag in flags if flag in self._pipeline.failures]
        if failed:
            reasons.append(f"the preparation failed ({', '.join(failed)})")
        quantiles = self.bundle.distribution.get(self.score)
        if quantiles is not None and value < quantiles[0] - _ROUNDING * (quantiles[-1] - quantiles[0]):
            count = self.bundle.data.normal
            known = "" if count is None else f"{count} "
            reasons.append(f"its score is below those of all {known}normal images, as strange as one above them all")
        return tuple(reasons)

    def _percentile(self, name: str, value: float) -> float | None:
        quantiles = self.bundle.distribution.get(name)
        return None if quantiles is None else RankScale.of_quantiles(quantiles).percentile(value)

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
    """Checks and loads a bundle.

    Args:
        path: Folder of a bundle, or of a stock export or its run.
        precision: As of :class:`Predictor`, like the other arguments.
        device: OpenVINO device.
        threads: Number of CPU threads of the model.
        score: Name of the score that decides.

    Raises:
        XrayError: The bundle is incomplete, changed or broken, or lacks the precision or the score.
    """
    return Predictor(Bundle.open(path), precision=precision, device=device, threads=threads, score=score)


def on_original(
    heat_maps: Sequence[NDArray[np.float32] | None], views: Sequence[Prepared], shape: tuple[int, int]
) -> NDArray[np.float32] | None:
    """Moves the heat maps of all views, each of the size of its picture, to their place on the original (H, W).

    The map is 0 outside of all views, the largest value where several lie; ``None`` if one is missing.
    """
    joined: NDArray[np.float32] | None = None
    covered = np.zeros(shape, np.bool_)
    for heat_map, view in zip(heat_maps, views, strict=True):
        if heat_map is None:
            return None
        lies_there = heat_map.shape == shape and np.array_equal(view.matrix, np.eye(3))
        moved = heat_map if lies_there else to_original(heat_map, view.matrix, shape)
        if len(views) == 1:
            return moved
        inside = _inside(view, shape)
        # Maps may be negative, and the 0 outside of a view does not belong to its map.
        highest = moved if joined is None else np.where(covered, np.maximum(joined, moved), moved)
        joined = highest if joined is None else np.where(inside, highest, joined)
        covered |= inside
    return joined


def outline_of(view: Prepared) -> NDArray[np.float64]:
    """Corners (4, 2) of a view on the original, x and y, whose pixel centres have whole coordinates.

    In the order top left, top right, bottom right, bottom left of the view.
    """
    height, width = view.image.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64) - 0.5
    return np.asarray(cv2.perspectiveTransform(corners[np.newaxis], np.linalg.inv(view.matrix))[0], np.float64)


def _inside(view: Prepared, shape: tuple[int, int]) -> Mask:
    """Mask of a view on the original, (H, W)."""
    everything = np.ones(view.image.shape, np.uint8)
    size, flags = (shape[1], shape[0]), cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpPerspective(everything, view.matrix, size, flags=flags) > 0)


def _chosen(name: str, known: Sequence[str], kind: str, bundle: Bundle) -> str:
    if name not in known:
        left_out = {key: entry.reason for key, entry in bundle.precisions.items()}.get(name)
        reason = f" ({left_out.rstrip('.')})" if kind == "precision" and left_out else ""
        raise XrayError(f"The bundle {bundle.folder} has no {kind} {name!r}{reason}; choose one of {', '.join(known)}.")
    return name


def _check_inner_files(bundle: Bundle) -> None:
    """Refuses a preparation with other files than the bundle's checked ones, so that all machines prepare alike."""
    if bundle.pipeline is None:
        return
    folder = PurePosixPath(bundle.preparation or "").parent
    for path in bundle.pipeline.parent.rglob("*"):  # a model's weights are found by its name alone
        name = path.relative_to(bundle.folder).as_posix()
        if path.is_file() and name not in (*bundle.files, DESCRIPTION_NAME):
            raise XrayError(f"The bundle {bundle.folder} holds {name}, which it does not know: copy the bundle again.")
    for entry in read_settings(bundle.pipeline):
        for step, settings in entry.items():
            for value in _paths(step, settings, bundle):
                if not is_inner_path(str(value)) or (folder / str(value)).as_posix() not in bundle.files:
                    raise XrayError(
                        f"{bundle.pipeline}, step {step}, names {value}, which is no file of the bundle: make the "
                        "bundle again, with the files that its preparation uses."
                    )


def _paths(step: str, settings: dict[str, Any], bundle: Bundle) -> Iterator[Any]:
    """Values of those settings of a step that are paths."""
    try:
        names = path_settings(step_class(step))
    except XrayError as error:
        raise XrayError(f"{bundle.pipeline}: {str(error).rstrip('.')}.") from error
    for name, value in settings.items():
        if value is not None and name in names:
            yield from value if isinstance(value, list) else [value]
