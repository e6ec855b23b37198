"""Export with a measured difference from torch, written beside the model."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from glob import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomalib_xray import NOTICE
from anomalib_xray.edge.bundle import DESCRIPTION_NAME, DIGEST_NAME, seal
from anomalib_xray.edge.description import (
    FORMAT,
    Data,
    Description,
    Normalization,
    Parity,
    Precision,
    installed_versions,
)
from anomalib_xray.edge.graph import Graph, raw_values
from anomalib_xray.edge.scope import Scope
from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import read_radiograph, to_unit_interval
from anomalib_xray.io.write import noticing_full_disk
from anomalib_xray.openvino_runtime import silence_telemetry
from anomalib_xray.training.post_processor import XrayPostProcessor
from anomalib_xray.transforms.pre_processor import padding_of

if TYPE_CHECKING:
    from anomalib.data import AnomalibDataModule
    from anomalib.deploy import CompressionType
    from anomalib.models import AnomalibModule
    from anomalib.models import AnomalibModule as ModuleMixin
else:
    # A mixin is no AnomalibModule of its own, because anomalib lists the direct subclasses of that as models.
    ModuleMixin = object

logger = logging.getLogger(__name__)

Run = Callable[[NDArray[np.float32]], tuple[NDArray[np.float64], NDArray[np.float32] | None]]
"""A form of a model: picture ``(H, W)`` in [0, 1] to raw scores ``(K,)`` and raw map ``(S, S)``."""

PARITY_TOLERANCE = 1e-4
"""Relative difference of scores and maps up to which torch and an exported model count as the same."""

PARITY_IMAGES = 50
"""Number of images that parity is measured on."""

_PACKAGES = ("anomalib-xray", "anomalib", "torch", "openvino", "onnx", "nncf", "numpy", "opencv-python-headless")

OPSET = 18
"""ONNX operator set; torch exports 18 anyway, and converting down to anomalib's 14 fails with a long warning."""


class ExportWithParity(ModuleMixin):
    """Mixin: ``to_onnx`` and ``to_openvino`` that check the exported model and write ``bundle.json`` beside it.

    Both raise an :class:`XrayError` where :meth:`why_not_exportable` gives a reason.
    """

    _is_intermediate = False
    """Whether the ONNX file being written is only a step on the way to OpenVINO."""

    def why_not_exportable(self) -> str | None:
        """The sentence that refuses an export of a model of these settings; ``None`` where it can be exported."""
        return None

    def _check_exportable(self) -> None:
        reason = self.why_not_exportable()
        if reason is not None:
            raise XrayError(reason)

    def to_onnx(  # type: ignore[override]  # anomalib's signature, which differs from Lightning's
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        **kwargs: Any,  # anomalib's signature
    ) -> Path:
        """Exports to ONNX (``model.onnx`` and its weights ``model.onnx.data``); arguments as anomalib's."""
        self._check_exportable()
        kwargs.setdefault("opset_version", OPSET)
        with noticing_full_disk(Path(export_root)):
            path = Path(super().to_onnx(export_root, model_file_name, input_size, **kwargs))
        if not self._is_intermediate:
            describe_export(self, path, phantom_images())
        return path

    def to_openvino(  # type: ignore[override]  # anomalib's remaining arguments are handed on by name
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        compression_type: CompressionType | None = None,
        datamodule: AnomalibDataModule | None = None,
        **kwargs: Any,  # anomalib's signature
    ) -> Path:
        """Exports to OpenVINO (``model.xml``, ``model.bin``); arguments as anomalib's.

        Parity is measured on the datamodule's test images if it has some, otherwise on phantoms.
        """
        self._check_exportable()
        silence_telemetry()
        images = _parity_images(datamodule)
        self._is_intermediate = True
        try:
            with noticing_full_disk(Path(export_root)):
                path = super().to_openvino(
                    export_root, model_file_name, input_size, compression_type, datamodule=datamodule, **kwargs
                )
        finally:
            self._is_intermediate = False
        describe_export(self, Path(path), images)
        return Path(path)


def _parity_images(datamodule: AnomalibDataModule | None) -> Iterator[np.ndarray]:
    """Test images, or phantoms where there are none: an export needs no data set."""
    if datamodule is None:
        return phantom_images()
    try:
        datamodule.setup("test")
    except XrayError as error:
        logger.warning("Parity is measured on phantoms: %s", error)
        return phantom_images()
    paths = islice(datamodule.test_data.samples.image_path, PARITY_IMAGES)
    return (to_unit_interval(read_radiograph(Path(path))) for path in paths)


def phantom_images() -> Iterator[np.ndarray]:
    """Generates phantom hands, each ``(H, W)`` float32 in [0, 1]."""
    from anomalib_xray.phantom import render_phantom

    for number in range(PARITY_IMAGES):
        yield to_unit_interval(render_phantom(np.random.default_rng(number)).image)


def describe_export(model: AnomalibModule, path: Path, pictures: Iterable[np.ndarray]) -> Description:
    """Measures the parity of an exported model on pictures ``(H, W)`` and writes ``bundle.json`` beside it."""
    score, (threshold, pixel_threshold) = model.hparams["score"], fitted_thresholds(model)
    normalization = _normalization(model)
    if normalization is None:
        normalization, threshold, pixel_threshold = Normalization(image=None, pixel=None), None, None
    description = description_of(
        model,
        scores=(score,),
        thresholds={score: threshold},
        pixel_threshold=pixel_threshold,
        normalization=normalization,
        distribution={},
        map_limits=normalization.pixel,
        precisions={},
        preparation=None,
        scope=Scope(),
        data=Data(),
    )
    graph, form = Graph(path), "onnx" if path.suffix == ".onnx" else "openvino_f32"
    exported: Run = lambda picture: raw_values(description, *graph(picture))  # noqa: E731
    parity = measure_parity(_raw_in_torch(model), {form: exported}, pictures, [score])
    if not parity[form].passed:
        differences = ["none" if value is None else f"{value:.1e}" for value in (parity[form].score, parity[form].map)]
        logger.warning(
            "%s differs from torch by %s (score) and %s (map) relative, more than %.0e; see %s.",
            path, *differences, PARITY_TOLERANCE, DESCRIPTION_NAME,
        )  # fmt: skip
    files = sorted(path.parent.glob(f"{escape(path.stem)}.*"))
    precisions = {"fp32": Precision(model=path.name, parity=parity)}
    return seal(
        msgspec.structs.replace(description, precisions=precisions),
        path.parent,
        [file for file in files if file.is_file() and file.name not in (DESCRIPTION_NAME, DIGEST_NAME)],
    )


def description_of(model: AnomalibModule, **rest: Any) -> Description:  # keys of the description
    """The description of a model's bundle; ``rest`` are the keys that differ between stock export and ``bundle``."""
    settings = {key: value for key, value in model.hparams.items() if _is_plain(value)} | {"padding": padding_of(model)}
    return Description(
        format=FORMAT,
        model=model.name,
        settings=settings,
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        notice=NOTICE,
        score=model.hparams["score"],
        precision="fp32",
        versions=installed_versions(*_PACKAGES),
        **rest,
    )


def measure_parity(
    reference: Run, others: Mapping[str, Run], pictures: Iterable[NDArray[np.float32]], names: Sequence[str]
) -> dict[str, Parity]:
    """Compares raw scores and maps that several forms of a model give for the same pictures.

    The difference of a score is ``|a - b|`` relative to ``|a|`` or, where that is larger, to the median of ``|a|`` over
    the pictures, because scores that change their sign pass 0. The difference of a map is ``max|a - b| / max|a|``.

    Args:
        reference: The model in torch.
        others: The other forms by name.
        pictures: Pictures ``(H, W)`` in [0, 1].
        names: Names of the scores, in order.

    Returns:
        The agreement of each form.

    Raises:
        XrayError: There are no pictures.

    >>> parity = measure_parity(
    ...     lambda picture: (np.array([picture.mean()]), None),
    ...     {"onnx": lambda picture: (np.array([picture.mean() * 1.01]), None)},
    ...     [np.ones((4, 4), np.float32)],
    ...     ["mse"],
    ... )
    >>> round(parity["onnx"].score, 3), parity["onnx"].passed
    (0.01, False)
    """
    expected: list[NDArray[np.float64]] = []
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in others}
    maps: dict[str, list[float]] = {name: [] for name in others}
    for picture in pictures:
        scores, anomaly_map = reference(picture)
        expected.append(scores)
        for name, run in others.items():
            other_scores, other_map = run(picture)
            found[name].append(other_scores)
            if anomaly_map is not None and other_map is not None:
                maps[name].append(map_difference(anomaly_map, other_map))
    if not expected:
        raise XrayError("The exported model was compared on no picture: the data set's test split is empty.")
    return {
        name: _parity(score_differences(np.stack(expected), np.stack(found[name])), maps[name], names, len(expected))
        for name in others
    }


def score_differences(expected: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.float64]:
    """Largest relative difference of each score of ``(N, K)``."""
    size = np.abs(expected)
    scale = np.maximum(size, np.median(size, axis=0)).clip(min=np.finfo(np.float32).tiny)
    return np.asarray((np.abs(expected - found) / scale).max(axis=0))


def map_difference(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """Largest difference of two maps ``(S, S)`` relative to the largest magnitude of the first."""
    scale = max(float(np.abs(expected).max()), float(np.finfo(np.float32).tiny))
    return float(np.abs(expected.astype(np.float64) - found).max()) / scale


def _parity(differences: NDArray[np.float64], maps: Sequence[float], names: Sequence[str], images: int) -> Parity:
    # numpy's maximum, because Python's forgets what is not a number.
    largest, largest_map = float(differences.max()), float(np.max(maps)) if maps else 0.0
    return Parity(
        images=images,
        score=_finite(largest),
        map=_finite(largest_map) if maps else None,
        scores=dict(zip(names, map(_finite, differences.tolist()), strict=True)),
        tolerance=PARITY_TOLERANCE,
        passed=largest <= PARITY_TOLERANCE and largest_map <= PARITY_TOLERANCE,
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _raw_in_torch(model: AnomalibModule) -> Run:
    """The model in torch, without its post-processing."""
    model = model.eval()

    @torch.no_grad()
    def run(picture: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
        batch = torch.from_numpy(picture).expand(1, 3, *picture.shape).contiguous().to(model.device)
        scored = model.model(model.pre_processor(batch) if model.pre_processor else batch)
        anomaly_map = scored.anomaly_map
        raw_map = None if anomaly_map is None else anomaly_map.reshape(anomaly_map.shape[-2:]).cpu().numpy()
        return np.array([float(scored.pred_score)]), raw_map

    return run


def fitted_thresholds(model: AnomalibModule) -> tuple[float | None, float | None]:
    """Raw thresholds of images and pixels that validation set; ``None`` where it set none."""
    processor = model.post_processor
    if not isinstance(processor, XrayPostProcessor):
        return None, None
    return _number(processor.image_threshold), _number(processor.pixel_threshold)


def _normalization(model: AnomalibModule) -> Normalization | None:
    """Limits by which the graph normalises; ``None`` where it returns raw values."""
    processor = model.post_processor
    if not isinstance(processor, XrayPostProcessor) or not processor.enable_normalization:
        return None
    if {processor.image_sensitivity, processor.pixel_sensitivity} != {0.5}:
        msg = "A bundle decides at its threshold: export with sensitivities of 0.5 and predict with another threshold."
        raise XrayError(msg)
    return Normalization(
        image=_limits(processor.image_min, processor.image_max), pixel=_limits(processor.pixel_min, processor.pixel_max)
    )


def _number(value: Tensor) -> float | None:
    """A plain number, ``None`` where validation never set one."""
    return None if bool(torch.isnan(value)) else float(value)


def _limits(lowest: Tensor, highest: Tensor) -> tuple[float, float] | None:
    low, high = _number(lowest), _number(highest)
    return None if low is None or high is None else (low, high)


def _is_plain(value: object) -> bool:
    """Whether JSON can hold a setting."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool | int | str | list | dict)
