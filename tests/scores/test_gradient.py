from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from anomalib_xray.scores import error_gradient

SIDE = 5


@pytest.fixture
def image() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((3, 1, SIDE, SIDE)))


@pytest.fixture
def mask() -> torch.Tensor:
    """The last image has no foreground."""
    mask = torch.from_numpy(np.random.default_rng(1).random((3, 1, SIDE, SIDE)) < 0.6).double()
    mask[2] = 0
    return mask


@pytest.fixture
def linear() -> nn.Module:
    """A reconstruction in which every pixel depends on all pixels."""
    layer = nn.Linear(SIDE**2, SIDE**2, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.random.default_rng(2).normal(0, 0.3, (SIDE**2, SIDE**2))))
    return nn.Sequential(nn.Flatten(), layer, nn.Unflatten(1, (1, SIDE, SIDE)))


def test_is_the_closed_form_of_a_linear_reconstruction(
    image: torch.Tensor, mask: torch.Tensor, linear: nn.Sequential
) -> None:
    """Of ``|M (W x - x)|^2 / m`` the gradient is ``2 (W - I)' M (W - I) x / m``."""
    weight = linear[1].weight.detach().numpy() - np.eye(SIDE**2)
    found = error_gradient(image, linear, mask)
    for index in range(3):
        pixels, kept = image[index].numpy().ravel(), mask[index].numpy().ravel()
        expected = 2 * weight.T @ (kept * (weight @ pixels)) / max(kept.sum(), 1)
        np.testing.assert_allclose(found[index].numpy().ravel(), np.abs(expected))
    assert (found[:2] > 0).any()
    assert (found[2] == 0).all()


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_works_where_no_gradient_is_recorded(
    mode: type, image: torch.Tensor, mask: torch.Tensor, linear: nn.Module
) -> None:
    expected = error_gradient(image, linear, mask)
    with mode():
        found = error_gradient(image * 1, linear, mask * 1)  # tensors that are made in this mode
    torch.testing.assert_close(found, expected)


def test_each_image_is_on_its_own(image: torch.Tensor, mask: torch.Tensor, linear: nn.Module) -> None:
    together = error_gradient(image, linear, mask)
    for index in range(3):
        one = slice(index, index + 1)
        torch.testing.assert_close(error_gradient(image[one], linear, mask[one]), together[one])


def test_leaves_image_and_network_alone(image: torch.Tensor, mask: torch.Tensor, linear: nn.Sequential) -> None:
    before = image.clone()
    error_gradient(image, linear, mask)
    assert torch.equal(image, before)
    assert not image.requires_grad
    assert linear[1].weight.grad is None
