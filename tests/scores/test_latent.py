from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Normal
from torch.distributions.kl import kl_divergence as divergence_of_torch

from anomalib_xray.scores import kl_divergence, kld_score, latent_distance


@pytest.fixture
def mean() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 3, (6, 5)))


@pytest.fixture
def deviation() -> torch.Tensor:
    """From nearly certain codes to very wide ones."""
    return torch.from_numpy(10.0 ** np.random.default_rng(1).uniform(-4, 2, (6, 5)))


def test_divergence_is_torchs(mean: torch.Tensor, deviation: torch.Tensor) -> None:
    torch.testing.assert_close(
        kl_divergence(mean, deviation), divergence_of_torch(Normal(mean, deviation), Normal(0.0, 1.0))
    )


def test_divergence_is_its_integral() -> None:
    """The definition, ``integral of q log(q / p)``, on a fine grid."""
    code = np.linspace(-12, 12, 200_001)
    for mean, deviation in ((0.0, 1.0), (1.5, 0.4), (-0.7, 1.6)):
        q = np.exp(-0.5 * ((code - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
        log_ratio = -0.5 * ((code - mean) / deviation) ** 2 - np.log(deviation) + 0.5 * code**2
        expected = np.trapezoid(q * log_ratio, code)
        found = kl_divergence(torch.tensor([[mean]]), torch.tensor([[deviation]]))
        assert float(found) == pytest.approx(expected, abs=1e-6)


def test_divergence_is_0_for_the_normal_distribution_alone(mean: torch.Tensor, deviation: torch.Tensor) -> None:
    assert (kl_divergence(torch.zeros(2, 3), torch.ones(2, 3)) == 0).all()
    assert (kl_divergence(mean, deviation) > 0).all()


def test_score_sums_over_the_code(mean: torch.Tensor, deviation: torch.Tensor) -> None:
    m, s = mean.numpy(), deviation.numpy()
    expected = (-0.5 * (1 + np.log(s**2) - m**2 - s**2)).sum(1)
    np.testing.assert_allclose(kld_score(mean, deviation), expected)


def test_latent_distance_is_the_mean_squared_difference(mean: torch.Tensor) -> None:
    other = mean.flip(0)
    expected = [np.mean((a - b) ** 2) for a, b in zip(mean.numpy(), other.numpy(), strict=True)]
    np.testing.assert_allclose(latent_distance(mean, other), expected)
    assert (latent_distance(mean, mean) == 0).all()
