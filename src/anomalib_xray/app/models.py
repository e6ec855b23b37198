"""The models that the viewer asks, and what it says of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from anomalib_xray.edge.device_bundle import DeviceBundle
from anomalib_xray.edge.result import Result
from anomalib_xray.errors import XrayError
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.preparation.pipeline import Prepared

_MOST_BUNDLES = 8
"""More pictures side by side could not be compared."""


class Asked(Protocol):
    """What the viewer needs of a :class:`anomalib_xray.edge.predictor.Predictor`."""

    @property
    def bundle(self) -> DeviceBundle:
        """The bundle behind it."""

    @property
    def preparation(self) -> tuple[str, ...]:
        """What the prepared pictures depend on."""

    def prepare(self, image: Radiograph) -> list[Prepared]:
        """Makes the pictures that the model is shown; may be called by several threads at once."""

    def predict(
        self,
        image: Radiograph,
        *,
        threshold: float | None = None,
        stages: bool = False,
        tags: Mapping[str, str] | None = None,
        prepared: Sequence[Prepared] | None = None,
    ) -> Result:
        """Scores one radiograph; may be called by several threads at once."""


@dataclass(frozen=True)
class ServedModel:
    """A model that is ready.

    Attributes:
        label: What the page calls it; no two are called the same.
        predictor: Scores radiographs.
        precision: Precision it computes with, e.g. ``fp32``.
    """

    label: str
    predictor: Asked
    precision: str

    def description(self) -> dict[str, Any]:
        """What the page needs to know of it, as JSON values."""
        bundle = self.predictor.bundle
        return {
            "label": self.label,
            "model": bundle.model,
            "precision": self.precision,
            "score": bundle.score,
            "scores": list(bundle.scores),
            "thresholds": dict(bundle.thresholds),
            "pixel_threshold": bundle.pixel_threshold,
            "map_limits": None if bundle.map_limits is None else list(bundle.map_limits),
            "distribution": dict(bundle.distribution),
            "normal_images": bundle.normal_images,
            "bundle_digest": bundle.digest,
            "prepares": bundle.preparation is not None,
        }


def open_models(paths: Sequence[Path], *, precision: str | None, device: str, threads: int | None) -> list[ServedModel]:
    """Loads bundles.

    Args:
        paths: Their folders, or as :func:`anomalib_xray.edge.predictor.open_predictor` takes them.
        precision: Of all of them; ``None`` for the one that each bundle names.
        device: OpenVINO device.
        threads: CPU threads of a model; ``None`` leaves it to OpenVINO.

    Returns:
        The models, in the order given.

    Raises:
        XrayError: There is none or too many, or one cannot be used.
    """
    from anomalib_xray.edge.predictor import open_predictor

    if not 1 <= len(paths) <= _MOST_BUNDLES:
        raise XrayError(f"{len(paths)} bundles cannot be shown: give 1 to {_MOST_BUNDLES} with --bundle.")
    predictors = [open_predictor(path, precision=precision, device=device, threads=threads) for path in paths]
    labels = distinct_labels([predictor.bundle.model for predictor in predictors], [path.name for path in paths])
    return [
        ServedModel(label, predictor, predictor.precision) for label, predictor in zip(labels, predictors, strict=True)
    ]


def distinct_labels(models: Sequence[str], folders: Sequence[str]) -> list[str]:
    """Names for models, the folder added where two are the same, and a number where that does not help.

    Args:
        models: Names of the models.
        folders: Names of their folders.

    Returns:
        A name for each, no two the same.
    """
    times = Counter(models)
    labels = [
        model if times[model] == 1 or not folder else f"{model} ({folder})"
        for model, folder in zip(models, folders, strict=True)
    ]
    again = Counter(labels)
    return [f"{label} {number}" if again[label] > 1 else label for number, label in enumerate(labels, 1)]
