"""Distance from the mean of normal images, in units of their spread."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from torch import Tensor

from anomalib_xray.detectors.detector import Detector

LEAST = 1e-6
"""Smallest variance of a direction, as a share of the largest."""


class Mahalanobis(Detector):
    """Mahalanobis distance to the mean of normal images.

    The covariance is shrunk towards a multiple of the identity, so that it can be inverted also where there are fewer
    images than features. Sources: Mahalanobis 1936; Ledoit and Wolf 2004.
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
        return {"mean": mean, "whitening": directions / np.sqrt(np.maximum(variance, LEAST * variance.max()))}

    def _score(self, features: Tensor) -> Tensor:
        # A sum of squares cannot be negative, as the product with the inverse can by rounding.
        return ((features - self.mean) @ self.whitening).square().sum(1).sqrt()
