"""What the numbers of a bundle mean: thresholds, what normal images score, and where both come from."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from anomalib_xray.bundling.answers import NormalValues
from anomalib_xray.post_processing import IMAGE_QUANTILE, PIXEL_QUANTILE, XrayPostProcessor

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule

_PACKAGES = ("anomalib", "torch", "openvino", "onnx", "nncf", "numpy", "opencv-python-headless")


def meaning_of(model: AnomalibModule, names: Sequence[str], values: NormalValues, *, recompute: bool) -> dict[str, Any]:
    """Thresholds, distribution and limits.

    Args:
        model: The model.
        names: Names of its scores, in order.
        values: What normal images are like.
        recompute: Whether the thresholds of the model's own validation are left out.

    Returns:
        The keys ``thresholds``, ``pixel_threshold``, ``distribution`` and ``map_limits`` of ``bundle.json``.
    """
    chosen, pixel = (None, None) if recompute else fitted_thresholds(model)
    image_quantile, pixel_quantile = quantiles_of(model)
    thresholds = dict(zip(names, values.threshold(image_quantile).tolist(), strict=True))
    if chosen is not None:
        thresholds[model.hparams["score"]] = chosen
    return {
        "thresholds": thresholds,
        "pixel_threshold": values.pixel_threshold(pixel_quantile) if pixel is None else pixel,
        "distribution": dict(zip(names, values.quantiles().tolist(), strict=True)),
        "map_limits": None if values.limits is None else list(values.limits),
    }


def fitted_thresholds(model: AnomalibModule) -> tuple[float | None, float | None]:
    """Raw thresholds of images and pixels that validation set; ``None`` where it set none."""
    processor = model.post_processor
    if not isinstance(processor, XrayPostProcessor):
        return None, None
    image, pixel = float(processor.image_threshold), float(processor.pixel_threshold)
    return None if np.isnan(image) else image, None if np.isnan(pixel) else pixel


def quantiles_of(model: AnomalibModule) -> tuple[float, float]:
    """Shares of normal images and of their pixels below the model's thresholds."""
    processor = model.post_processor
    if not isinstance(processor, XrayPostProcessor):
        return IMAGE_QUANTILE, PIXEL_QUANTILE
    return processor.image_quantile, processor.pixel_quantile


def threshold_origin(model: AnomalibModule, names: Sequence[str], *, recompute: bool) -> dict[str, str]:
    """Where the threshold of each score comes from, in words."""
    origin = dict.fromkeys(names, f"{100 * quantiles_of(model)[0]:g} % of the normal images lie below")
    if not recompute and fitted_thresholds(model)[0] is not None:
        origin[model.hparams["score"]] = "the checkpoint's validation"
    return origin


def versions() -> dict[str, str]:
    """Versions of the packages that take part, those that are installed."""
    found = {}
    for name in ("anomalib-xray", *_PACKAGES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
