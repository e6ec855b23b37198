"""Detectors by distance: to the mean of normal images, to the nearest, to a dense region, to their subspace."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from anomalib.models.components import KCenterGreedy
from numpy.typing import NDArray
from sklearn.cluster import DBSCAN
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from anomalib_xray.detectors.detector import Detector
from anomalib_xray.errors import XrayError


def squared_distances(vectors: Tensor, others: Tensor) -> Tensor:
    """Squared Euclidean distances ``(N, M)`` of ``(N, D)`` and ``(M, D)`` vectors by one matrix product.

    Small distances among long vectors are lost to rounding; see :func:`nearest`.
    """
    centre = others.mean(0)  # vectors around the origin are shorter, and rounded less
    vectors, others = vectors - centre, others - centre
    lengths = vectors.square().sum(1, keepdim=True) + others.square().sum(1)
    return (lengths - 2 * vectors @ others.T).clamp(min=0)


def nearest(vectors: Tensor, others: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Euclidean distances ``(N, count)`` to the nearest of ``(M, D)`` vectors, from their differences; and which."""
    chosen = squared_distances(vectors, others).topk(count, dim=1, largest=False).indices
    return (vectors.unsqueeze(1) - others[chosen]).square().sum(2).sqrt(), chosen


def nearest_distances(vectors: Tensor, others: Tensor, count: int) -> Tensor:
    """Euclidean distances ``(N, count)`` to the nearest of ``(M, D)`` vectors."""
    return nearest(vectors, others, count)[0]


class Mahalanobis(Detector):
    """Mahalanobis distance to the mean of normal images.

    The covariance is shrunk towards a multiple of the identity, so that it can be inverted also where there are fewer
    images than features. Sources: Mahalanobis 1936; Ledoit and Wolf 2004.

    Example:
        >>> detector = Mahalanobis()
        >>> detector.fit(torch.rand(20, 3))
        >>> bool(detector(torch.full((1, 3), 9.0)) > 5)
        True
    """

    mean: Tensor
    whitening: Tensor

    def __init__(self) -> None:
        super().__init__("whitening", "mean")

    def _fit(self, features: NDArray[np.float64]) -> dict[str, Any]:
        mean = features.mean(0)
        # Of a single image there is no covariance; every direction then counts the same.
        covariance = LedoitWolf().fit(features).covariance_ if len(features) > 1 else np.eye(len(mean))
        variance, directions = np.linalg.eigh(covariance)
        if variance.max() <= 0:
            variance = np.ones_like(variance)
        return {"mean": mean, "whitening": directions / np.sqrt(np.maximum(variance, 1e-6 * variance.max()))}

    def _score(self, features: Tensor) -> Tensor:
        # A sum of squares cannot be negative, as the product with the inverse can by rounding.
        return ((features - self.mean) @ self.whitening).square().sum(1).sqrt()


Subset = Literal["random", "coreset"]
"""Choice of the vectors that are kept: at random, or such that they cover all of them well."""


class NearestNeighbours(Detector):
    """Mean Euclidean distance to the k nearest vectors of normal images.

    Source: Ramaswamy et al. 2000, "Efficient algorithms for mining outliers from large data sets"; the mean in place of
    the k-th distance: Angiulli and Pizzuti 2002.

    Args:
        neighbours: Number k of neighbours; all if there are fewer.
        limit: Largest number of vectors that are kept; all if left out.
        subset: Choice of the vectors: ``random``, or a ``coreset`` that covers all as well as it can (Roth et al. 2022,
            2106.08265), which also keeps the oddest training images.

    Raises:
        XrayError: Less than one neighbour or vector.

    Example:
        >>> detector = NearestNeighbours(neighbours=1)
        >>> detector.fit(torch.zeros(3, 2))
        >>> detector(torch.tensor([[3.0, 4.0]]))
        tensor([5.])
    """

    references: Tensor

    def __init__(self, neighbours: int = 5, limit: int | None = None, subset: Subset = "random") -> None:
        super().__init__("references")
        if neighbours < 1 or (limit is not None and limit < 1):
            raise XrayError(f"neighbours is {neighbours} and limit {limit}, but at least 1 image is compared with.")
        self.neighbours = neighbours
        self.limit = limit
        self.subset = subset

    def _fit(self, features: NDArray[np.float64]) -> dict[str, Any]:
        if self.limit is None or len(features) <= self.limit:
            return {"references": features}
        if self.subset == "random":
            chosen = np.random.default_rng(0).permutation(len(features))[: self.limit]
            return {"references": features[chosen]}
        # Half an image more, because anomalib takes a share and rounds down.
        sampler = KCenterGreedy(torch.from_numpy(features).float(), (self.limit + 0.5) / len(features))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return {"references": features[sampler.select_coreset_idxs()]}

    def _score(self, features: Tensor) -> Tensor:
        count = min(self.neighbours, len(self.references))
        return nearest_distances(features, self.references, count).mean(1)


class Dbscan(Detector):
    """Distance to the nearest core sample of DBSCAN, in units of its radius.

    To DBSCAN a vector is noise if no core sample lies within the radius, a score above 1. Source: Ester et al. 1996.

    Args:
        eps: Radius. If left out, that within which 90 % of the training images have ``min_samples`` images.
        min_samples: Images within the radius, the one in its centre among them, that make it dense.

    Raises:
        XrayError: A radius or a number of images that is not positive.

    Example:
        >>> detector = Dbscan(eps=2.0)
        >>> detector.fit(torch.zeros(9, 2))
        >>> detector(torch.tensor([[3.0, 4.0]]))
        tensor([2.5000])
    """

    cores: Tensor
    radius: Tensor

    def __init__(self, eps: float | None = None, min_samples: int = 5) -> None:
        super().__init__("cores", "radius")
        if (eps is not None and eps <= 0) or min_samples < 1:
            raise XrayError(
                f"eps is {eps} and min_samples {min_samples}, but a radius is above 0 and dense from 1 image on."
            )
        self.eps = eps
        self.min_samples = min_samples

    def _fit(self, features: NDArray[np.float64]) -> dict[str, Any]:
        count = min(self.min_samples, len(features))
        if self.eps is None:
            distances, _ = NearestNeighbors(n_neighbors=count).fit(features).kneighbors(features)
            # A little more, since DBSCAN computes distances anew and rounds them; images may all be the same.
            radius = float(np.quantile(distances[:, -1], 0.9)) * (1 + 1e-6) or 1.0
        else:
            radius = self.eps
        cores = features[DBSCAN(eps=radius, min_samples=count).fit(features).core_sample_indices_]
        if not len(cores):
            raise XrayError(
                f"No training image has {count} within eps {radius:g}: raise eps, lower min_samples, or leave eps out."
            )
        return {"cores": cores, "radius": radius}

    def _score(self, features: Tensor) -> Tensor:
        return nearest_distances(features, self.cores, 1)[:, 0] / self.radius


class Subspace(Detector):
    """Distance to the subspace in which normal images vary: what their principal components cannot express.

    Sources: Shyu et al. 2003, "A novel anomaly detection scheme based on principal component classifier"; as feature
    reconstruction error of deep features: Ahuja et al. 2019 (1909.11786).

    Args:
        share: Share of the variance of normal images that the subspace holds.

    Raises:
        XrayError: A share that is not between 0 and 1.

    Example:
        >>> detector = Subspace()
        >>> detector.fit(torch.tensor([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]]))
        >>> detector(torch.tensor([[9.0, 0.0], [0.0, 2.0]]))
        tensor([0., 2.])
    """

    mean: Tensor
    directions: Tensor

    def __init__(self, share: float = 0.97) -> None:
        super().__init__("mean", "directions")
        if not 0 < share < 1:
            raise XrayError(
                f"subspace_share is {share:g}, but it is a share of variance between 0 and 1, such as 0.97."
            )
        self.share = share

    def _fit(self, features: NDArray[np.float64]) -> dict[str, Any]:
        mean = features.mean(0)
        varies = len(features) > 1 and bool((features != features[0]).any())
        directions = (
            PCA(self.share, svd_solver="full").fit(features).components_.T if varies else np.empty((len(mean), 0))
        )
        return {"mean": mean, "directions": directions}

    def _score(self, features: Tensor) -> Tensor:
        centred = features - self.mean
        return (centred - centred @ self.directions @ self.directions.T).square().sum(1).sqrt()
