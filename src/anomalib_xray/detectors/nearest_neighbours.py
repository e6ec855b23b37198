"""Distance to the nearest normal images."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from anomalib.models.components import KCenterGreedy
from numpy.typing import NDArray
from torch import Tensor

from anomalib_xray.detectors.detector import Detector
from anomalib_xray.detectors.distance import nearest_distances
from anomalib_xray.errors import XrayError

Subset = Literal["random", "coreset"]


class NearestNeighbours(Detector):
    """Mean Euclidean distance to the k nearest vectors of normal images.

    Source: Ramaswamy et al. 2000, "Efficient algorithms for mining outliers from large data sets"; the mean in place of
    the k-th distance: Angiulli and Pizzuti 2002.

    Args:
        neighbours: Number k of neighbours; all if there are fewer.
        limit: Largest number of vectors that are kept; all if left out.
        subset: Which are kept: a ``random`` choice, or a ``coreset`` that covers all as well as it can (Roth et al.
            2022, 2106.08265), which also keeps the oddest training images.

    Raises:
        XrayError: Less than one neighbour or vector.
    """

    references: Tensor

    def __init__(self, neighbours: int = 5, limit: int | None = None, subset: Subset = "random") -> None:
        super().__init__("references")
        if neighbours < 1 or (limit is not None and limit < 1):
            msg = f"neighbours is {neighbours} and limit {limit}, but at least 1 image is compared with."
            raise XrayError(msg)
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
