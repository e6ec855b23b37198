"""Several detectors on the same vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from anomalib_xray.detectors.detector import Detector
from anomalib_xray.detectors.distances import Dbscan, Mahalanobis, NearestNeighbours, Subset, Subspace
from anomalib_xray.detectors.one_class_svm import Gamma, OneClassSvm
from anomalib_xray.detectors.projection import Projection
from anomalib_xray.errors import XrayError

DETECTORS = ("knn", "mahalanobis", "one_class_svm", "dbscan", "subspace")
"""Names of all detectors, which are the names of their scores."""

USUAL_DETECTORS = DETECTORS[:4]
"""Detectors of a model that names none; ``subspace`` came later, and older checkpoints lack it."""


@dataclass(frozen=True)
class DetectorSettings:
    """Settings of all detectors.

    See :class:`Projection` (components, whiten), :class:`NearestNeighbours` (neighbours, limit, subset),
    :class:`OneClassSvm` (nu, gamma), :class:`Dbscan` (eps, min_samples) and :class:`Subspace` (subspace_share).
    """

    components: float | None = None
    whiten: bool = False
    neighbours: int = 5
    limit: int | None = None
    subset: Subset = "random"
    nu: float = 0.1
    gamma: float | Gamma = "sweep"
    eps: float | None = None
    min_samples: int = 5
    subspace_share: float = 0.97


def check_detectors(names: Sequence[str]) -> None:
    """Refuses names that are not in :data:`DETECTORS`.

    Raises:
        XrayError: A name is unknown.
    """
    unknown = [name for name in names if name not in DETECTORS]
    if unknown:
        raise XrayError(f"detectors names {', '.join(unknown)}, but there are {', '.join(DETECTORS)}; choose of them.")


class DetectorBank(nn.Module):
    """Detectors behind one projection.

    Args:
        names: Some of :data:`DETECTORS`.
        settings: Settings of all of them.

    Raises:
        XrayError: A name is unknown, or a setting out of its range.

    Example:
        >>> import torch
        >>> bank = DetectorBank(["knn"])
        >>> bank.fit(torch.eye(3).repeat(4, 1))
        >>> bool(bank(torch.full((1, 3), 9.0))["knn"] > bank(torch.eye(3))["knn"].max())
        True
    """

    def __init__(self, names: Sequence[str] = USUAL_DETECTORS, settings: DetectorSettings | None = None) -> None:
        super().__init__()
        check_detectors(names)
        chosen = settings or DetectorSettings()
        self.projection = Projection(chosen.components, chosen.whiten)
        detectors: dict[str, Detector] = {
            "knn": NearestNeighbours(chosen.neighbours, chosen.limit, chosen.subset),
            "mahalanobis": Mahalanobis(),
            "one_class_svm": OneClassSvm(chosen.nu, chosen.gamma),
            "dbscan": Dbscan(chosen.eps, chosen.min_samples),
            "subspace": Subspace(chosen.subspace_share),
        }
        self.detectors = nn.ModuleDict({name: detectors[name] for name in DETECTORS if name in names})

    def fit(self, features: Tensor) -> None:
        """Fits the projection, then every detector, to vectors of normal images, ``(N, D)``.

        Raises:
            XrayError: There are no vectors, or some are not finite.
        """
        self.projection.fit(features)
        projected = self.projection(features.to(self.projection.shift))
        for detector in self.detectors.values():
            assert isinstance(detector, Detector)  # a module dictionary does not tell what it holds
            detector.fit(projected)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Scores vectors ``(N, D)`` by the name of the detector, higher = more anomalous, ``(N,)`` each."""
        projected = self.projection(features)
        return {name: detector(projected) for name, detector in self.detectors.items()}
