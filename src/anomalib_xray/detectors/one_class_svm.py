"""A boundary around normal images."""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold
from sklearn.svm import OneClassSVM
from torch import Tensor

from anomalib_xray.detectors.detector import Detector
from anomalib_xray.detectors.distances import squared_distances
from anomalib_xray.errors import XrayError
from anomalib_xray.io.progress import track

logger = logging.getLogger(__name__)

Gamma = Literal["scale", "sweep"]
"""Choice of the kernel's width: by the spread of the features, or by a sweep with held-out ones."""

FACTORS = 2.0 ** np.arange(-4, 9)
"""Widths of the kernel in the sweep, from the widest, in units of scikit-learn's ``scale``."""

FOLDS = 5
"""Parts of the training images, each of which is held out once."""


class OneClassSvm(Detector):
    """One-class support vector machine with a Gaussian kernel.

    The score is ``log(rho) - log(sum_i a_i exp(-gamma |x - x_i|²))``: scikit-learn's decision function
    ``sum - rho`` with the sign changed, and on a logarithmic scale: positive beyond the boundary as well, but not the
    same for all images that are far away. Source: Schölkopf et al. 2001.

    Args:
        nu: Share of the training images that may lie beyond the boundary, 0 to 1.
        gamma: Width of the kernel: a number, ``scale`` (scikit-learn's ``1 / (D variance)``), or ``sweep``: the
            narrowest kernel with which images that are held out lie beyond the boundary no more often than ``nu``
            allows (Tax and Müller 2004, "A consistency-based model selection for one-class classification"), without
            any label.

    Raises:
        XrayError: A setting out of its range.

    Example:
        >>> import torch
        >>> detector = OneClassSvm(gamma="scale")
        >>> detector.fit(torch.rand(20, 3))
        >>> bool(detector(torch.full((1, 3), 9.0)) > 0)
        True
    """

    vectors: Tensor
    log_weights: Tensor
    log_offset: Tensor
    width: Tensor

    def __init__(self, nu: float = 0.1, gamma: float | Gamma = "sweep") -> None:
        super().__init__("vectors", "log_weights", "log_offset", "width")
        if not 0 < nu < 1:
            raise XrayError(f"nu is {nu}, but it is a share of the training images, above 0 and below 1.")
        if gamma not in ("scale", "sweep") and not (isinstance(gamma, int | float) and gamma > 0):
            raise XrayError(f"gamma is {gamma!r}, but it is a positive number, 'scale' or 'sweep'.")
        self.nu = nu
        self.gamma = gamma

    def _fit(self, features: NDArray[np.float64]) -> dict[str, Any]:
        machine = OneClassSVM(nu=self.nu, gamma=self._width(features)).fit(features)
        return {
            "vectors": machine.support_vectors_,
            "log_weights": np.log(machine.dual_coef_[0]),
            "log_offset": np.log(machine.offset_),
            "width": machine.gamma,
        }

    def _width(self, features: NDArray[np.float64]) -> float:
        """The factor of the squared distances."""
        if isinstance(self.gamma, int | float):
            return float(self.gamma)
        variance = float(features.var()) or 1.0
        scale: float = 1 / (features.shape[1] * variance)
        return scale if self.gamma == "scale" or len(features) < 2 * FOLDS else scale * self._sweep(features, scale)

    def _sweep(self, features: NDArray[np.float64], scale: float) -> float:
        """The narrowest consistent kernel, in units of ``scale``; the widest if none is consistent."""
        allowed = self.nu + 2 * np.sqrt(self.nu * (1 - self.nu) / len(features))
        best = float(FACTORS[0])
        for factor in track(FACTORS, "One-class SVM"):
            if self._held_out_beyond(features, float(factor * scale)) > allowed:
                break
            best = float(factor)
        logger.info("One-class SVM: gamma %.3g, %.3g times scikit-learn's 'scale'.", best * scale, best)
        return best

    def _held_out_beyond(self, features: NDArray[np.float64], gamma: float) -> float:
        """Share of held-out images beyond the boundary of the others."""
        beyond = 0
        for fitted, held_out in KFold(FOLDS, shuffle=True, random_state=0).split(features):
            machine = OneClassSVM(nu=self.nu, gamma=gamma).fit(features[fitted])
            beyond += int((machine.decision_function(features[held_out]) < 0).sum())
        return beyond / len(features)

    def _score(self, features: Tensor) -> Tensor:
        distances = squared_distances(features, self.vectors)
        return self.log_offset - (self.log_weights - self.width * distances).logsumexp(1)
