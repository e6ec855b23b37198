from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_xray.scores import anogan_score

RANDOM = np.random.default_rng(0)
RESIDUAL, FEATURE = torch.from_numpy(RANDOM.gamma(2, 1, (2, 50)))


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.5, 1.0])
def test_weighs_pixels_and_features(weight: float) -> None:
    expected = [(1 - weight) * r + weight * d for r, d in zip(RESIDUAL.tolist(), FEATURE.tolist(), strict=True)]
    np.testing.assert_allclose(anogan_score(RESIDUAL, FEATURE, weight), expected)


@pytest.mark.parametrize("k", [0.25, 1.0, 3.0])
def test_ranks_as_the_sum_of_the_f_anogan(k: float) -> None:
    published = RESIDUAL + k * FEATURE
    found = anogan_score(RESIDUAL, FEATURE, k / (1 + k))
    np.testing.assert_allclose(found * (1 + k), published)
    assert torch.equal(found.argsort(), published.argsort())
