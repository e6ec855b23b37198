"""Scaling and projection of vectors before a detector sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from anomalib_xray.detectors.detector import Fitted
from anomalib_xray.errors import XrayError

LEAST = 1e-3
"""Smallest standard deviation, as a share of the largest: below it there is rounding, which scaling would blow up."""


class Projection(Fitted):
    """Scales every feature to unit variance, then keeps the directions in which normal images differ most (PCA).

    Args:
        components: Number of directions that are kept, or the share of the variance that they hold if below 1; no
            projection if left out.
        whiten: Whether the directions are scaled to unit variance as well, so that a deviation counts as much in a
            direction in which normal images hardly differ.

    Raises:
        XrayError: A number of components that is not positive.

    Example:
        >>> import torch
        >>> projection = Projection(components=2)
        >>> projection.fit(torch.rand(20, 5))
        >>> projection(torch.rand(1, 5)).shape
        torch.Size([1, 2])
    """

    shift: Tensor
    factor: Tensor
    directions: Tensor

    def __init__(self, components: float | None = None, whiten: bool = False) -> None:
        super().__init__("shift", "factor", "directions")
        if components is not None and (components <= 0 or (components >= 1 and components != int(components))):
            raise XrayError(
                f"components is {components}, but it is a whole number of directions, or a share of variance below 1."
            )
        self.components = components
        self.whiten = whiten

    def _fit(self, features: NDArray[np.float64]) -> dict[str, Any]:
        scaler = StandardScaler().fit(features)
        scale = np.maximum(scaler.scale_, LEAST * np.sqrt(scaler.var_.max()))
        scaled = (features - scaler.mean_) / scale
        whole = self.components is None and not self.whiten
        directions = np.empty(0) if whole else self._directions(scaled)
        return {"shift": scaler.mean_, "factor": 1 / scale, "directions": directions}

    def _directions(self, scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        """The matrix ``(D, P)`` from scaled features to components."""
        at_most = max(1, min(len(scaled) - 1, scaled.shape[1]))
        wanted = at_most if self.components is None else self.components
        wanted = min(int(wanted), at_most) if wanted >= 1 else wanted
        if not scaled.any():  # nothing varies, so no direction is better than another
            return np.eye(scaled.shape[1], at_most)
        pca = PCA(wanted, svd_solver="full").fit(scaled)
        directions = np.asarray(pca.components_.T)
        if not self.whiten:
            return directions
        deviation = np.sqrt(pca.explained_variance_)
        return np.asarray(directions / np.maximum(deviation, LEAST * deviation.max()))

    def forward(self, features: Tensor) -> Tensor:
        """Projects ``(N, D)`` to ``(N, P)``; before it is fitted, changes nothing."""
        if not self.is_fitted:
            return features
        scaled = (features - self.shift) * self.factor
        return scaled @ self.directions if self.directions.numel() else scaled
