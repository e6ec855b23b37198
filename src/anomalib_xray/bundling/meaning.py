"""What the numbers of a bundle mean: thresholds, what normal images score, and where both come from."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from anomalib_xray.bundling.answers import NormalValues
from anomalib_xray.post_processing import XrayPostProcessor

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule

IMAGE_QUANTILE = 0.95
"""Share of normal images below the threshold of a score that the checkpoint has none for."""

PIXEL_QUANTILE = 0.995
"""The same of the foreground's pixels."""

_PACKAGES = ("anomalib", "torch", "openvino", "onnx", "nncf", "numpy", "opencv-python-headless")


def meaning_of(model: AnomalibModule, names: Sequence[str], values: NormalValues) -> dict[str, Any]:
    """Thresholds, distribution and limits."""
    chosen, pixel = fitted_thresholds(model)
    thresholds = dict(zip(names, values.threshold(IMAGE_QUANTILE).tolist(), strict=True))
    if chosen is not None:
        thresholds[model.hparams["score"]] = chosen
    return {
        "thresholds": thresholds,
        "pixel_threshold": values.pixel_threshold(PIXEL_QUANTILE) if pixel is None else pixel,
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


def threshold_origin(model: AnomalibModule, names: Sequence[str]) -> dict[str, str]:
    """Where the threshold of each score comes from, in words."""
    origin = dict.fromkeys(names, f"{IMAGE_QUANTILE:.0%} of the normal images lie below")
    if fitted_thresholds(model)[0] is not None:
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
