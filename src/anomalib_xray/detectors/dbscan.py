"""Distance to the nearest dense region of normal images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import DBSCAN
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from anomalib_xray.detectors.detector import Detector
from anomalib_xray.detectors.distance import nearest_distances
from anomalib_xray.errors import XrayError

DENSE = 0.9
"""Share of the training images that are in dense regions where no radius is given."""


class Dbscan(Detector):
    """Distance to the nearest core sample of DBSCAN, in units of its radius.

    DBSCAN itself answers for the vectors only that it clusters: one is noise if no core sample lies within the radius.
    For others that is a score above 1. Source: Ester et al. 1996.

    Args:
        eps: Radius. If left out, that within which 90 % of the training images have ``min_samples`` images.
        min_samples: Images within the radius, the one in its centre among them, that make it dense.

    Raises:
        XrayError: A radius or a number of images that is not positive.
    """

    cores: Tensor
    radius: Tensor

    def __init__(self, eps: float | None = None, min_samples: int = 5) -> None:
        super().__init__("cores", "radius")
        if (eps is not None and eps <= 0) or min_samples < 1:
            msg = f"eps is {eps} and min_samples {min_samples}, but a radius is above 0 and dense from 1 image on."
            raise XrayError(msg)
        self.eps = eps
        self.min_samples = min_samples

    def _fit(self, features: NDArray[np.float64]) -> dict[str, Any]:
        count = min(self.min_samples, len(features))
        if self.eps is None:
            distances, _ = NearestNeighbors(n_neighbors=count).fit(features).kneighbors(features)
            radius = float(np.quantile(distances[:, -1], DENSE)) or 1.0  # images may all be the same
        else:
            radius = self.eps
        cores = features[DBSCAN(eps=radius, min_samples=count).fit(features).core_sample_indices_]
        if not len(cores):
            msg = (
                f"No training image has {count} within eps {radius:g}: raise eps, lower min_samples, or leave eps out."
            )
            raise XrayError(msg)
        return {"cores": cores, "radius": radius}

    def _score(self, features: Tensor) -> Tensor:
        return nearest_distances(features, self.cores, 1)[:, 0] / self.radius
