from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.attention import SelfAttention


@pytest.fixture
def features() -> Tensor:
    return torch.randn(2, 16, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def attention(pooling: int = 1, gamma: float = 0.7) -> SelfAttention:
    torch.manual_seed(1)
    layer = SelfAttention(16, pooling).double()
    with torch.no_grad():
        layer.gamma.fill_(gamma)
    return layer


def reference(layer: SelfAttention, features: Tensor, pooling: int) -> Tensor:
    """SAGAN's formula for each position i: y_i = gamma * sum_j softmax_j(q_i . k_j) v_j + x_i."""
    query, key, value = (conv2d(features, part.weight, part.bias) for part in (layer.query, layer.key, layer.value))
    if pooling > 1:
        windows = [part.unfold(2, pooling, pooling).unfold(3, pooling, pooling) for part in (key, value)]
        key, value = (window.amax((4, 5)) for window in windows)
    query, key, value = (part.flatten(2) for part in (query, key, value))
    weights = torch.einsum("nci,ncj->nij", query, key).exp()
    weights = weights / weights.sum(2, keepdim=True)
    attended = torch.einsum("nij,ncj->nci", weights, value).reshape(features.shape)
    return layer.gamma * attended + features


@pytest.mark.parametrize("pooling", [1, 2])
def test_equals_the_formula_with_the_full_matrix(features: Tensor, pooling: int) -> None:
    layer = attention(pooling)
    torch.testing.assert_close(layer(features), reference(layer, features, pooling))


@pytest.mark.parametrize("pooling", [1, 2])
def test_gradients_equal_those_of_the_formula(features: Tensor, pooling: int) -> None:
    layer = attention(pooling)
    parameters = dict(layer.named_parameters())
    found = torch.autograd.grad(layer(features).square().sum(), list(parameters.values()))
    expected = torch.autograd.grad(reference(layer, features, pooling).square().sum(), list(parameters.values()))
    for name, one, other in zip(parameters, found, expected, strict=True):
        torch.testing.assert_close(one, other, msg=f"gradient of {name}")
    # softmax does not change when all logits of a row shift together, which is all that the key's bias does
    assert all(gradient.abs().max() > 0 for name, gradient in zip(parameters, found, strict=True) if name != "key.bias")


def test_starts_as_identity_whose_strength_can_be_learnt(features: Tensor) -> None:
    layer = SelfAttention(16).double()
    output = layer(features)
    assert torch.equal(output, features)
    (gradient,) = torch.autograd.grad(output.square().sum(), [layer.gamma])
    assert gradient != 0


def test_query_and_key_have_an_eighth_of_the_channels() -> None:
    layer = SelfAttention(24)
    assert (layer.query.out_channels, layer.key.out_channels, layer.value.out_channels) == (3, 3, 24)


@pytest.mark.parametrize("pooling", [1, 2])
def test_an_image_is_independent_of_its_batch(features: Tensor, pooling: int) -> None:
    layer = attention(pooling)
    torch.testing.assert_close(layer(features)[1:], layer(features[1:]))


def test_too_few_channels_are_refused() -> None:
    with pytest.raises(XrayError, match="7 channels but needs at least 8"):
        SelfAttention(7)


@pytest.mark.parametrize("pooling", [1, 2])
def test_weights_are_the_softmax_of_query_times_key(features: Tensor, pooling: int) -> None:
    layer = attention(pooling)
    query, key = (conv2d(features, part.weight, part.bias).detach().numpy() for part in (layer.query, layer.key))
    count, channels, height, width = key.shape
    windows = key.reshape(count, channels, height // pooling, pooling, width // pooling, pooling)
    key = windows.max((3, 5)).reshape(count, channels, -1)
    exponent = np.exp(np.einsum("nci,ncj->nij", query.reshape(count, channels, -1), key))
    expected = exponent / exponent.sum(2, keepdims=True)
    found = layer.weights(features).detach().numpy()
    assert found.shape == (2, 48, 48 // pooling**2)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(found.sum(2), 1)


@pytest.mark.parametrize("pooling", [1, 2])
def test_output_computed_with_the_weights_is_the_forward_pass(features: Tensor, pooling: int) -> None:
    layer = attention(pooling)
    value = max_pool2d(layer.value(features), pooling).flatten(2)
    attended = (value @ layer.weights(features).transpose(1, 2)).reshape(features.shape)
    torch.testing.assert_close(layer.gamma * attended + features, layer(features))


def test_positions_that_pooling_drops_are_no_keys() -> None:
    features = torch.randn(1, 16, 5, 7, dtype=torch.float64)
    layer = attention(pooling=2)
    assert layer.weights(features).shape == (1, 35, 6)
    assert layer(features).shape == features.shape
