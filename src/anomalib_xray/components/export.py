"""Export whose difference from torch is measured and written beside the model."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from glob import escape
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from anomalib_xray import __version__
from anomalib_xray.edge.bundle import BUNDLE_FORMAT, CHECKSUMS_NAME, METADATA_NAME, NOTICE, checksums_of
from anomalib_xray.edge.runtime import compile_model, unnormalise
from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import read_radiograph, to_unit_interval
from anomalib_xray.io.write import noticing_full_disk, write_atomically
from anomalib_xray.post_processing import XrayPostProcessor
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

PARITY_TOLERANCE = 1e-4
"""Relative difference of scores and maps up to which torch and an exported model count as the same."""

PARITY_IMAGES = 50
"""Number of images that parity is measured on."""

NEUTRAL_SENSITIVITY = 0.5
"""anomalib's sensitivity that leaves a threshold where it is."""

OPSET = 18
"""ONNX operator set; torch exports 18 anyway, and converting down to anomalib's 14 fails with a long warning."""


class ExportWithParity(ModuleMixin):
    """Mixin: ``to_onnx`` and ``to_openvino`` that check the exported model and write ``metadata.json`` beside it.

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
            write_metadata(self, path, phantom_images())
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
        images = _parity_images(datamodule)
        self._is_intermediate = True
        try:
            with noticing_full_disk(Path(export_root)):
                path = super().to_openvino(
                    export_root, model_file_name, input_size, compression_type, datamodule=datamodule, **kwargs
                )
        finally:
            self._is_intermediate = False
        write_metadata(self, Path(path), images)
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
    return test_images(datamodule)


def phantom_images() -> Iterator[np.ndarray]:
    """Generates phantom hands, each ``(H, W)`` float32 in [0, 1]."""
    from anomalib_xray.phantom import render_phantom

    for number in range(PARITY_IMAGES):
        yield to_unit_interval(render_phantom(np.random.default_rng(number)).image)


def test_images(datamodule: AnomalibDataModule) -> Iterator[np.ndarray]:
    """Reads test images of a datamodule that is set up, as they lie on disk, each ``(H, W)`` float32 in [0, 1]."""
    for path in islice(datamodule.test_data.samples.image_path, PARITY_IMAGES):
        yield to_unit_interval(read_radiograph(Path(path)))


def write_metadata(model: AnomalibModule, path: Path, images: Iterator[np.ndarray]) -> None:
    """Measures the parity of an exported model and writes ``metadata.json`` beside it.

    Args:
        model: The model that was exported.
        path: Exported ``.xml`` or ``.onnx`` file.
        images: Images to compare on, each ``(H, W)`` in [0, 1].
    """
    parity = measure_parity(model, path, images)
    if not parity["passed"]:
        logger.warning(
            "%s differs from torch by %.1e (score) and %.1e (map) relative, more than %.0e; see %s.",
            path, parity["score"], parity["map"], PARITY_TOLERANCE, METADATA_NAME,
        )  # fmt: skip
    metadata = {
        "format": BUNDLE_FORMAT,
        "notice": NOTICE,
        "model": model.name,
        "settings": settings_of(model),
        "score": model.hparams["score"],
        **_post_processing(model),
        "parity": parity,
        "versions": {"anomalib-xray": __version__}
        | {name: version(name) for name in ("anomalib", "torch", "openvino", "onnx")},
    }
    write_atomically(path.parent / METADATA_NAME, json.dumps(metadata, indent=2) + "\n")
    files = (file for file in sorted(path.parent.glob(f"{escape(path.stem)}.*")) if file.is_file())
    write_atomically(path.parent / CHECKSUMS_NAME, checksums_of([path.parent / METADATA_NAME, *files]))


@torch.no_grad()
def measure_parity(model: AnomalibModule, path: Path, images: Iterator[np.ndarray]) -> dict[str, Any]:
    """Compares raw score and map of torch and of the exported model, opened in OpenVINO with the f32 hint.

    Args:
        model: The model that was exported.
        path: Exported ``.xml`` or ``.onnx`` file.
        images: Images to compare on, each ``(H, W)`` in [0, 1].

    Returns:
        ``images`` (how many), ``score`` (largest ``|a - b| / |a|``), ``map`` (largest ``max|a - b| / max|a|``),
        ``tolerance`` and ``passed``.

    Raises:
        XrayError: There are no images.
    """
    compiled = compile_model(path)
    model = model.eval()
    scores: list[float] = []
    maps = [0.0]
    for image in images:
        batch = torch.from_numpy(image).expand(1, 3, *image.shape).contiguous()
        expected = model(batch.to(model.device))
        outputs = compiled(batch.numpy())
        scores.append(_difference(model, expected.pred_score, outputs["pred_score"], "image"))
        if expected.anomaly_map is not None:
            maps.append(_difference(model, expected.anomaly_map, outputs["anomaly_map"], "pixel"))
    if not scores:
        raise XrayError(f"{path} was compared on no image: the data set's test split is empty.")
    # numpy's maximum, because Python's forgets what is not a number.
    score, pixel = float(np.max(scores)), float(np.max(maps))
    return {
        "images": len(scores),
        "score": score,
        "map": pixel,
        "tolerance": PARITY_TOLERANCE,
        "passed": score <= PARITY_TOLERANCE and pixel <= PARITY_TOLERANCE,
    }


def _difference(model: AnomalibModule, expected: Tensor, found: np.ndarray, kind: str) -> float:
    """Largest absolute difference of raw values relative to the largest expected magnitude."""
    reference = _raw(model, expected, kind)
    scale = max(float(np.abs(reference).max()), float(np.finfo(np.float32).tiny))
    return float(np.abs(reference - _raw(model, found, kind)).max()) / scale


def _raw(model: AnomalibModule, values: Tensor | np.ndarray, kind: str) -> np.ndarray:
    """Undoes the normalisation, which would make differences look smaller than they are."""
    values = np.asarray(values, dtype=np.float64)
    settings = _post_processing(model)
    threshold, limits = settings["threshold"][kind], settings["normalization"][kind]
    return values if limits is None else unnormalise(values, threshold, *limits)


def _post_processing(model: AnomalibModule) -> dict[str, dict[str, Any]]:
    """Thresholds and limits of the scores, ``None`` where the graph returns raw values."""
    processor = model.post_processor
    if not isinstance(processor, XrayPostProcessor) or not processor.enable_normalization:
        return {"threshold": dict.fromkeys(("image", "pixel")), "normalization": dict.fromkeys(("image", "pixel"))}
    if {processor.image_sensitivity, processor.pixel_sensitivity} != {NEUTRAL_SENSITIVITY}:
        msg = "A bundle decides at its threshold: export with sensitivities of 0.5 and predict with another threshold."
        raise XrayError(msg)
    return {
        "threshold": {"image": _number(processor.image_threshold), "pixel": _number(processor.pixel_threshold)},
        "normalization": {
            "image": _numbers([processor.image_min, processor.image_max]),
            "pixel": _numbers([processor.pixel_min, processor.pixel_max]),
        },
    }


def _number(value: Tensor) -> float | None:
    """A plain number, ``None`` where validation never set one."""
    return None if bool(torch.isnan(value)) else float(value)


def _numbers(values: Sequence[Tensor]) -> list[float] | None:
    """Plain numbers, ``None`` where validation never set them."""
    numbers = [_number(value) for value in values]
    return None if None in numbers else [number for number in numbers if number is not None]


def settings_of(model: AnomalibModule) -> dict[str, Any]:
    """Settings that a model was built with, those that can stand in JSON, and the padding of its pre-processor."""
    settings = {key: value for key, value in model.hparams.items() if _is_plain(value)}
    return settings | {"padding": padding_of(model)}


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str | list | dict)
