from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from anomalib_xray.detectors.distance import nearest_distances, squared_distances


def test_squared_distances_are_those_of_scipy() -> None:
    generator = np.random.default_rng(0)
    some, others = generator.normal(5, 1, (5, 10)), generator.normal(5, 1, (13, 10))
    found = squared_distances(torch.from_numpy(some), torch.from_numpy(others)).numpy()
    np.testing.assert_allclose(found, cdist(some, others, "sqeuclidean"), rtol=1e-10)


@pytest.mark.parametrize("count", [1, 4, 13])
def test_nearest_distances_are_the_smallest(count: int) -> None:
    generator = np.random.default_rng(0)
    some, others = generator.normal(size=(5, 10)), generator.normal(size=(13, 10))
    found = nearest_distances(torch.from_numpy(some), torch.from_numpy(others), count).numpy()
    np.testing.assert_allclose(found, np.sort(cdist(some, others))[:, :count], rtol=1e-10)


def test_small_distances_far_from_the_origin_survive_single_precision() -> None:
    some = torch.tensor([[1000.0, 1000.0, 1000.0, 1000.0], [-7.0, 3.0, 0.0, 1.0]])
    found = nearest_distances(some[:1], some + 2**-10, 1)
    assert found.item() == 2 * 2**-10
