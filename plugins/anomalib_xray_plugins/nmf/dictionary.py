"""Parts that normal images are made of."""

from __future__ import annotations

import sys
import warnings
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from anomalib_xray.detectors.detector import Fitted

Init = Literal["random", "nndsvda"]


class Dictionary(Fitted):
    """Non-negative parts of unit length, and how much of each makes up an image.

    scikit-learn's NMF finds the parts; the amounts in a new image, its code, come from a fixed number of multiplicative
    updates, which lower the squared error and end near the non-negative least squares. Source: Lee and Seung 2001,
    "Algorithms for non-negative matrix factorization".

    Args:
        components: Number K of parts; less where there are fewer images.
        init: Where the search for them starts: ``random`` or ``nndsvda``.
        tolerance: Where it ends, scikit-learn's ``tol``.
        updates: Number of updates for a code.
        seed: Seed of the random start.
    """

    parts: Tensor

    def __init__(self, components: int, init: Init, tolerance: float, updates: int, seed: int = 0) -> None:
        super().__init__("parts")
        self.components = components
        self.init = init
        self.tolerance = tolerance
        self.updates = updates
        self.seed = seed

    def _fit(self, features: NDArray[np.float64]) -> dict[str, Any]:
        components = min(self.components, *features.shape)
        nmf = NMF(components, init=self.init, tol=self.tolerance, random_state=self.seed)
        console = Console(quiet=not sys.stdout.isatty())
        with warnings.catch_warnings(), console.status(f"Factorising {len(features)} images into {components} parts"):
            warnings.simplefilter("ignore", ConvergenceWarning)  # more iterations than scikit-learn's 200 change little
            parts = nmf.fit(features.astype(np.float32)).components_
        return {"parts": parts / np.maximum(np.linalg.norm(parts, axis=1, keepdims=True), np.finfo(np.float32).tiny)}

    def encode(self, pixels: Tensor) -> Tensor:
        """Finds the amounts of the parts.

        Args:
            pixels: At least 0, ``(N, P)``.

        Returns:
            At least 0, ``(N, K)``; a single 0 before the dictionary is fitted.
        """
        if not self.is_fitted:
            return pixels.new_zeros(pixels.shape[0], 1)
        tiny = torch.finfo(pixels.dtype).tiny
        overlap, target = self.parts @ self.parts.T, pixels @ self.parts.T
        # The best multiple of the target is a start that is neither 0 where it matters nor far off.
        along = (target * (target @ overlap)).sum(1, keepdim=True).clamp(min=tiny)
        code = target * target.square().sum(1, keepdim=True) / along
        for _ in range(self.updates):
            code = code * target / (code @ overlap).clamp(min=tiny)
        return code

    def decode(self, code: Tensor) -> Tensor:
        """Adds up the parts, ``(N, K)`` to ``(N, P)``; ``(N, 1)`` of zeros before the dictionary is fitted."""
        return code @ self.parts if self.is_fitted else code
