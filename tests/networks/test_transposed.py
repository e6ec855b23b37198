from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from anomalib_xray.networks.transposed import ProductConvTranspose2d


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding", "bias"), [(1, 4, 1, 0, True), (2, 4, 2, 0, False), (4, 4, 2, 1, True)]
)
def test_a_step_is_that_of_the_transposed_convolution(
    side: int, kernel: int, stride: int, padding: int, bias: bool
) -> None:
    layer = ProductConvTranspose2d(3, 5, kernel, stride, padding, bias=bias)
    other = nn.ConvTranspose2d(3, 5, kernel, stride, padding, bias=bias)
    other.load_state_dict(layer.state_dict())
    features = torch.randn(2, 3, side, side, requires_grad=True)
    found = []
    for module in (layer, other):
        made = module(features)
        made.backward(torch.linspace(-1, 1, made.numel()).view_as(made))
        assert features.grad is not None
        found.append([made.detach(), features.grad.clone(), *(weight.grad for weight in module.parameters())])
        features.grad = None
    torch.testing.assert_close(found[0], found[1])


def test_a_spectrally_normalised_one_is_as_well() -> None:
    layer = spectral_norm(ProductConvTranspose2d(4, 3, 4))
    code = torch.randn(2, 4, 1, 1)
    made = layer(code)  # moves the singular vectors, which evaluation then uses
    torch.testing.assert_close(layer.eval()(code), made)
