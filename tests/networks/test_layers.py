from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from anomalib_xray.networks.layers import ProductConv2d, ProductConvTranspose2d
from anomalib_xray.networks.sagan import maybe_spectral


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding", "bias"), [(1, 4, 1, 0, True), (2, 4, 2, 0, False), (4, 4, 2, 1, True)]
)
def test_a_step_is_that_of_the_transposed_convolution(
    side: int, kernel: int, stride: int, padding: int, bias: bool
) -> None:
    layer = ProductConvTranspose2d(3, 5, kernel, stride, padding, bias=bias)
    _compare_steps(layer, nn.ConvTranspose2d(3, 5, kernel, stride, padding, bias=bias), torch.randn(2, 3, side, side))


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "padding", "bias"), [(4, 4, 1, 0, True), (8, 4, 2, 1, False), (5, 3, 2, 0, True)]
)
def test_a_step_is_that_of_the_convolution(side: int, kernel: int, stride: int, padding: int, bias: bool) -> None:
    layer = ProductConv2d(3, 5, kernel, stride, padding, bias=bias)
    _compare_steps(layer, nn.Conv2d(3, 5, kernel, stride, padding, bias=bias), torch.randn(2, 3, side, side))


def _compare_steps(layer: nn.Module, other: nn.Module, features: Tensor) -> None:
    other.load_state_dict(layer.state_dict())
    features.requires_grad_()
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


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "make", [lambda: nn.Conv2d(3, 5, 4, 2, 1), lambda: nn.ConvTranspose2d(3, 5, 4, 2, 1), lambda: nn.Linear(8, 4)]
)
def test_spectral_normalisation_is_torchs(make: Callable[[], nn.Module], memory_format: torch.memory_format) -> None:
    layers = []
    for normalise in (spectral_norm, lambda layer: maybe_spectral(layer, True)):
        torch.manual_seed(0)
        layers.append(normalise(make().double().to(memory_format=memory_format)))
    assert list(layers[0].state_dict()) == list(layers[1].state_dict())
    image = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    found = []
    for layer in layers:
        shown = image.clone().requires_grad_()
        made, more = layer(shown), layer(2 * shown)  # two passes, as of real images and of fakes
        (slope,) = torch.autograd.grad((made.square() + more**3).sum(), shown, create_graph=True)
        (slope.square().sum() + made.sin().sum()).backward()  # as with a gradient penalty
        weights = [weight.grad for weight in layer.parameters()]
        found.append([made.detach(), *weights, *layer.state_dict().values(), layer.eval()(image).detach()])
    torch.testing.assert_close(found[0], found[1])
