"""A dictionary of normal images, its reconstructions, and detectors of unusual codes."""

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
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from anomalib_xray.detectors import DetectorBank
from anomalib_xray.detectors.detector import Fitted
from anomalib_xray.scores import ReconstructionScorer, ScoredBatch, foreground

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
        """Amounts of the parts in pixels ``(N, P)``, at least 0, ``(N, K)``; a single 0 before it is fitted."""
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


def shrunk(image: Tensor, resolution: int) -> Tensor:
    """Averages an image's pixels, ``(N, 1, S, S)`` to ``(N, 1, R, R)``; S is a multiple of R."""
    return avg_pool2d(image, image.shape[-1] // resolution)


def enlarged(small: Tensor, image: Tensor) -> Tensor:
    """Interpolates ``(N, 1, R, R)`` to the size of an image, ``(N, 1, S, S)``."""
    factor = image.shape[-1] // small.shape[-1]
    return small if factor == 1 else interpolate(small, scale_factor=factor, mode="bilinear")


class NmfModel(nn.Module):
    """Reconstructs images from the parts of normal ones.

    Args:
        resolution: Side R of the images that are factorised; image sizes are multiples of it.
        dictionary: Finds parts and codes.
        detectors: Scores codes.
        scorer: Computes scores and map.
    """

    def __init__(
        self, resolution: int, dictionary: Dictionary, detectors: DetectorBank, scorer: ReconstructionScorer
    ) -> None:
        super().__init__()
        self.resolution = resolution
        self.dictionary = dictionary
        self.detectors = detectors
        self.scorer = scorer

    def vectors(self, image: Tensor) -> Tensor:
        """Pixels that are factorised, ``(N, 1, S, S)`` to ``(N, R * R)``."""
        return shrunk(image, self.resolution).flatten(1)

    def fit(self, vectors: Tensor) -> None:
        """Fits the dictionary to pixels of normal images ``(N, R * R)``, then the detectors to their codes."""
        self.dictionary.fit(vectors)
        self.detectors.fit(self.dictionary.encode(vectors.to(self.dictionary.parts)))

    def forward(self, batch: Tensor) -> ScoredBatch:
        """Scores images.

        Image and reconstruction are compared at the dictionary's resolution, beyond which nothing counts as an error.
        Images are pre-processed, ``(N, 3, S, S)`` in [0, 1].
        """
        image = batch.mean(1, keepdim=True)
        code = self.dictionary.encode(self.vectors(image))
        blurred = enlarged(shrunk(image, self.resolution), image) * foreground(image)
        scored: ScoredBatch = self.scorer(blurred, self._image_of(code, image), self.reconstruct, self.detectors(code))
        return scored

    def reconstruct(self, image: Tensor) -> Tensor:
        """Encodes and decodes, ``(N, 1, S, S)`` in [0, 1] to the same."""
        return self._image_of(self.dictionary.encode(self.vectors(image)), image)

    def _image_of(self, code: Tensor, image: Tensor) -> Tensor:
        """Reconstruction ``(N, 1, S, S)`` in [0, 1] of a code ``(N, K)``; black before the dictionary is fitted."""
        pixels = self.dictionary.decode(code)
        side = self.resolution if self.dictionary.is_fitted else 1
        return enlarged(pixels.clamp(0, 1).reshape(-1, 1, side, side), image)
