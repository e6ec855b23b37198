"""Factorisation of each image on its own, as published: unusual rows and columns of the image itself."""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import DBSCAN
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import OneClassSVM
from torch import Tensor, nn

from anomalib_xray.scores import ReconstructionScorer, ScoredBatch, foreground
from anomalib_xray_plugins.nmf.torch_model import Init, enlarged, shrunk

Outliers = Literal["dbscan", "one_class_svm"]

OUTLIER_COLUMNS = "outlier_columns"
"""Score of the factorisation of an image."""

EPS, MIN_SAMPLES = 3.0, 2
"""Radius and number of neighbours of DBSCAN, as published."""

NU, GAMMA = 0.15, 1e-3
"""Share and width of the one-class support vector machine, as published."""

GREY_LEVELS = 255
"""Factor of the pixels: the published radius is one of grey levels of 8 bits."""


class PerImageModel(nn.Module):
    """Marks the rows and columns of an image that are unlike the others of the same image.

    The image V (m × n) is factorised into W (m × K) and H (K × n). Rows of W and columns of H that DBSCAN calls noise,
    or that lie beyond a one-class support vector machine's boundary, are outliers; where two of them meet, the image is
    marked. Nothing is learnt from other images.

    The arguments are settings of ``Nmf``; the scorer judges the reconstruction WH and smooths the map, and the random
    start is the same for each image.
    """

    def __init__(
        self,
        resolution: int,
        components: int,
        init: Init,
        tolerance: float,
        outliers: Outliers,
        scorer: ReconstructionScorer,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.resolution = resolution
        self.components = components
        self.init = init
        self.tolerance = tolerance
        self.outliers = outliers
        self.scorer = scorer
        self.seed = seed

    def vectors(self, image: Tensor) -> Tensor:
        """Nothing of an image is kept, ``(N, 0)``."""
        return image.flatten(1)[:, :0]

    def fit(self, vectors: Tensor) -> None:
        """There is nothing to fit."""

    def forward(self, batch: Tensor) -> ScoredBatch:
        """Scores pre-processed images ``(N, 3, S, S)`` in [0, 1]; the map is the marks with ``outlier_columns``."""
        image = batch.mean(1, keepdim=True)
        mask = foreground(image)
        small = shrunk(image, self.resolution)
        found = [self._examine(pixels) for pixels in small[:, 0].detach().cpu().double().numpy()]
        reconstruction, marks, share = (
            torch.from_numpy(np.stack(column)).to(image) for column in zip(*found, strict=True)
        )
        scored: ScoredBatch = self.scorer(
            enlarged(small, image) * mask,
            enlarged(reconstruction.unsqueeze(1), image),
            self.reconstruct,
            {OUTLIER_COLUMNS: share},
        )
        if self.scorer.score != OUTLIER_COLUMNS:
            return scored
        return scored._replace(anomaly_map=self.scorer.anomaly_map(enlarged(marks.unsqueeze(1), image), mask))

    def reconstruct(self, image: Tensor) -> Tensor:
        """The product WH of each image's factors, ``(N, 1, S, S)`` in [0, 1] to the same."""
        small = shrunk(image, self.resolution)[:, 0].detach().cpu().double().numpy()
        products = np.stack([self._examine(pixels)[0] for pixels in small])
        return enlarged(torch.from_numpy(products).to(image).unsqueeze(1), image)

    def _examine(
        self, pixels: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Factorises an image ``(m, n)`` in [0, 1].

        Returns:
            Product of the factors ``(m, n)`` in [0, 1], marks ``(m, n)`` of 0 and 1, and share of the rows and columns
            with foreground that are outliers, in [0, 1], without dimension.
        """
        if not pixels.any():
            return pixels, pixels, np.zeros(())
        nmf = NMF(
            min(self.components, *pixels.shape), init=self.init, tol=self.tolerance, random_state=self.seed
        )  # of its default 200 iterations
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            left = nmf.fit_transform(pixels * GREY_LEVELS)
        rows = self._are_outliers(left) & pixels.any(1)
        columns = self._are_outliers(nmf.components_.T) & pixels.any(0)
        shown = pixels.any(1).sum() + pixels.any(0).sum()
        product = np.clip(left @ nmf.components_ / GREY_LEVELS, 0, 1)
        return product, np.outer(rows, columns).astype(float), np.asarray((rows.sum() + columns.sum()) / shown)

    def _are_outliers(self, vectors: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which of ``(M, K)`` are outliers among them, ``(M,)``."""
        if self.outliers == "dbscan":
            labels = DBSCAN(eps=EPS, min_samples=MIN_SAMPLES).fit(vectors).labels_
        else:
            labels = OneClassSVM(nu=NU, gamma=GAMMA).fit_predict(vectors)
        return np.asarray(labels == -1)
