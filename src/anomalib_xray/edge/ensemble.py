"""One or several bundles for the same radiograph, and one number fused from their results."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from anomalib_xray.edge.predictor import Predictor
from anomalib_xray.edge.result import Result
from anomalib_xray.errors import XrayError
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.preparation.pipeline import Prepared

_UNSAFE = re.compile(r"[^\w.-]+")


class Ensemble:
    """Bundles under short names.

    Args:
        predictors: One per bundle; at least one.
        labels: Their names; by default the model's name, the folder's name where models are the same, numbered where
            that is the same too. These labels are safe as names of files.

    Attributes:
        predictors: The predictors by label.
    """

    def __init__(self, predictors: Sequence[Predictor], labels: Sequence[str] | None = None) -> None:
        self.predictors = dict(zip(labels or _labels(predictors), predictors, strict=True))

    @property
    def fuses(self) -> bool:
        """Whether there is a fused percentile: of two bundles or more that all know their normal images."""
        return len(self.predictors) > 1 and not self.without_distribution

    @property
    def without_distribution(self) -> list[str]:
        """Labels of the bundles that do not know the percentiles of the score that decides."""
        return [
            label
            for label, predictor in self.predictors.items()
            if predictor.score not in predictor.bundle.distribution
        ]

    def predict(
        self,
        image: Radiograph,
        *,
        threshold: float | None = None,
        tags: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> dict[str, Result]:
        """Lets every bundle score one radiograph; returns their results by label.

        Arguments and errors are those of :meth:`Predictor.predict`, the threshold for a single bundle only. ``flags``
        are notes of reading the file, which come before those of the preparation.
        """
        results = {}
        for label, result in self.each(image, threshold=threshold, tags=tags, flags=flags):
            if isinstance(result, XrayError):
                raise result
            results[label] = result
        return results

    def each(
        self,
        image: Radiograph,
        *,
        threshold: float | None = None,
        stages: bool = False,
        tags: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> Iterator[tuple[str, Result | XrayError]]:
        """Lets one bundle after the other score a radiograph; one that cannot does not stop the others.

        Arguments are those of :meth:`predict` and :meth:`Predictor.predict`.

        Yields:
            A bundle's label, and its result or its error.
        """
        prepared: dict[tuple[str, ...], list[Prepared]] = {}
        for label, predictor in self.predictors.items():
            key = predictor.preparation  # preparing takes longer than scoring, and many bundles share it
            try:
                if key not in prepared:
                    prepared[key] = predictor.prepare(image)
                result = predictor.predict(image, threshold=threshold, stages=stages, tags=tags, prepared=prepared[key])
            except XrayError as error:
                yield label, error
            else:
                yield label, replace(result, flags=list(dict.fromkeys([*flags, *result.flags])))

    def fused(self, results: Mapping[str, Result]) -> float | None:
        """Mean percentile among the normal images of each bundle, 0 to 100.

        ``None`` for a single bundle, where a bundle does not know its percentiles, and where the radiograph is not
        comparable.
        """
        percentiles = [result.percentile for result in results.values() if result.percentile is not None]
        if not percentiles or not self.fuses or any(result.not_comparable for result in results.values()):
            return None
        return sum(percentiles) / len(percentiles)


def _labels(predictors: Sequence[Predictor]) -> list[str]:
    models = [_safe(predictor.bundle.model) for predictor in predictors]
    folders = [_safe(Path(predictor.bundle.folder).resolve().name) for predictor in predictors]
    for labels in (models, folders):
        if len({label.casefold() for label in labels}) == len(labels):
            return labels
    return [f"{label}-{number}" for number, label in enumerate(models, 1)]


def _safe(name: str) -> str:
    """A name that is a single part of a path on every system, and no hidden file."""
    return _UNSAFE.sub("_", name).strip("._")[:60] or "model"
