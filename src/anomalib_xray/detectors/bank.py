"""Several detectors on the same vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anomalib_xray.detectors.detector import Detector
from anomalib_xray.detectors.distances import Dbscan, Mahalanobis, NearestNeighbours, Subset, Subspace, nearest
from anomalib_xray.detectors.one_class_svm import Gamma, OneClassSvm
from anomalib_xray.detectors.projection import Projection
from anomalib_xray.errors import XrayError

DETECTORS = ("knn", "mahalanobis", "one_class_svm", "dbscan", "subspace")
"""Names of all detectors, which are the names of their scores."""

USUAL_DETECTORS = DETECTORS[:4]
"""Detectors of a model that names none; ``subspace`` came later, and older checkpoints lack it."""


FOLDS = 10
"""Parts of the training vectors that :class:`LocalScale` judges by the rest; 5 and 30 gave the same on real arms."""

LEAST = 1e-3
"""Smallest expected score, as a share of their mean: copies of a picture have none, and nothing is divided by 0."""


@dataclass(frozen=True)
class DetectorSettings:
    """Settings of all detectors.

    See :class:`Projection` (components, whiten), :class:`NearestNeighbours` (neighbours, limit, subset),
    :class:`OneClassSvm` (nu, gamma), :class:`Dbscan` (eps, min_samples), :class:`Subspace` (subspace_share) and
    :class:`LocalScale` (local).
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
    local: int | None = None


def check_detectors(names: Sequence[str]) -> None:
    """Refuses names that are not in :data:`DETECTORS`.

    Raises:
        XrayError: A name is unknown.
    """
    unknown = [name for name in names if name not in DETECTORS]
    if unknown:
        raise XrayError(f"detectors names {', '.join(unknown)}, but there are {', '.join(DETECTORS)}; choose of them.")


class LocalScale(Detector):
    """Score of a detector, in units of what normal images of the same kind have.

    Normal images of rare kinds, such as seldom views, lie farther from the others than those of frequent kinds. So
    a score is divided by the mean that its nearest training vectors have where they took no part in the fit. They count
    less the farther they are, and the last of them nothing, so that the score does not jump where two change places.

    Sources: Breunig et al. 2000, "LOF: identifying density-based local outliers"; Wilkinghoff et al. 2025, "Local
    density-based anomaly score normalization for domain generalization"; weights: Biau and Devroye 2015, "Lectures on
    the nearest neighbor method".

    Args:
        detector: Detector whose scores are distances.
        neighbours: Number of training vectors.

    Raises:
        XrayError: Less than one neighbour.

    Example:
        >>> detector = LocalScale(NearestNeighbours(neighbours=1), neighbours=2)
        >>> detector.fit(torch.tensor([[0.0], [1.0], [2.0], [50.0], [60.0], [70.0]]))
        >>> detector(torch.tensor([[3.0], [61.0]])) < 1.01
        tensor([True, True])
    """

    references: Tensor
    expected: Tensor

    def __init__(self, detector: Detector, neighbours: int) -> None:
        super().__init__("references", "expected")
        if neighbours < 1:
            raise XrayError(f"local is {neighbours}, but at least 1 vector of a normal image is compared with.")
        self.detector = detector
        self.neighbours = neighbours

    def _fit(self, features: NDArray[np.float64]) -> dict[str, Any]:
        vectors = torch.from_numpy(features).to(self.references)
        expected = np.ones(len(vectors))
        if len(vectors) > 1:
            order = np.random.default_rng(0).permutation(len(vectors))
            for part in np.array_split(order, min(FOLDS, len(vectors))):
                self.detector.fit(vectors[np.setdiff1d(order, part)])
                expected[part] = self.detector(vectors[part]).cpu().numpy()
        self.detector.fit(vectors)
        least = LEAST * expected.mean() or 1.0
        return {"references": features, "expected": np.maximum(expected, least)}

    def _score(self, features: Tensor) -> Tensor:
        count = min(self.neighbours + 1, len(self.references))
        distances, chosen = nearest(features, self.references, count)
        farthest = distances.amax(1, keepdim=True)
        # All are as far where there is a single one: then each counts the same.
        weights = farthest - distances + 1e-6 * farthest + torch.finfo(distances.dtype).tiny
        expected = (weights * self.expected[chosen]).sum(1) / weights.sum(1)
        scores: Tensor = self.detector(features)
        return scores / expected


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
        if chosen.local is not None:
            if "one_class_svm" in names:
                raise XrayError(
                    "local divides distances, but the score of one_class_svm is none; name other detectors, such as "
                    "detectors: [knn, subspace]."
                )
            detectors = {name: LocalScale(detector, chosen.local) for name, detector in detectors.items()}
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
