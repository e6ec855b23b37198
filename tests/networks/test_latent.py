from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anomalib_xray.networks.latent import GaussianHead, Latent, draw


def head(latent: Latent) -> tuple[GaussianHead, Tensor, Tensor]:
    """A head with given outputs of its two layers, before anything is done to them."""
    mean, spread = torch.tensor([[0.0, 2.0, -3.0]]), torch.tensor([[-1.0, 0.0, 3.0]])

    class Fixed(nn.Module):
        def __init__(self, value: Tensor) -> None:
            super().__init__()
            self.value = value

        def forward(self, features: Tensor) -> Tensor:
            return self.value.expand(len(features), -1)[:, :, None, None]

    return GaussianHead(Fixed(mean), Fixed(spread), latent), mean, spread


def test_linear_head_has_a_free_mean_and_a_log_variance() -> None:
    network, mean, spread = head("linear")
    found_mean, deviation = network(torch.zeros(2, 5))
    np.testing.assert_allclose(found_mean, np.tile(mean, (2, 1)))
    np.testing.assert_allclose(deviation, np.tile(np.sqrt(np.exp(spread.numpy())), (2, 1)), rtol=1e-6)


def test_published_head_puts_both_through_tanh() -> None:
    network, mean, spread = head("tanh")
    found_mean, deviation = network(torch.zeros(1, 5))
    np.testing.assert_allclose(found_mean, np.tanh(mean.numpy()), rtol=1e-6)
    np.testing.assert_allclose(deviation, np.tanh(spread.numpy()), rtol=1e-6)


def test_deviation_stays_finite_and_positive() -> None:
    weights = nn.Linear(1, 2)
    with torch.no_grad():
        weights.weight.fill_(1e6)
    network = GaussianHead(nn.Linear(1, 2), weights, "linear")
    _, deviation = network(torch.tensor([[-1.0], [1.0]]))
    assert deviation.isfinite().all()
    assert (deviation > 0).all()


def test_drawn_codes_have_mean_and_deviation() -> None:
    torch.manual_seed(0)
    mean, deviation = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 3.0]])
    codes = draw(mean.expand(20000, -1), deviation.expand(20000, -1))
    np.testing.assert_allclose(codes.mean(0), mean[0], atol=0.1)
    np.testing.assert_allclose(codes.std(0), deviation[0], rtol=0.05)


@pytest.mark.parametrize("seed", [0, 1])
def test_drawing_is_its_formula_and_differentiable(seed: int) -> None:
    mean, deviation = torch.rand(3, 4, requires_grad=True), torch.rand(3, 4, requires_grad=True)
    torch.manual_seed(seed)
    noise = torch.randn(3, 4)
    torch.manual_seed(seed)
    code = draw(mean, deviation)
    torch.testing.assert_close(code, mean + deviation * noise)
    code.sum().backward()
    assert mean.grad is not None
    torch.testing.assert_close(mean.grad, torch.ones(3, 4))
    assert deviation.grad is not None
    torch.testing.assert_close(deviation.grad, noise)
