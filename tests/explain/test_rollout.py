from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from anomalib_xray.errors import XrayError
from anomalib_xray.explain.explainers import attention_rollout, mixing, roll_out
from anomalib_xray.networks.attention import SelfAttention
from anomalib_xray.networks.sagan import Trunk


def layer(pooling: int = 1, gamma: float = 0.5) -> SelfAttention:
    attention = SelfAttention(8, pooling)
    nn.init.constant_(attention.gamma, gamma)
    return attention


@torch.no_grad()
def test_rollout_is_the_product_of_the_published_formula() -> None:
    """``R = (A_2 / 2 + I / 2) (A_1 / 2 + I / 2)``; its mean over the places of the last layer."""
    torch.manual_seed(0)
    first, second = layer(), layer()
    features = torch.randn(2, 8, 3, 3)
    later = first(features)
    found = roll_out([(mixing(first, features, 0.5), (3, 3)), (mixing(second, later, 0.5), (3, 3))])
    for index in range(2):
        matrices = []
        for attention, inputs in ((first, features), (second, later)):
            query, key = (part(inputs)[index].flatten(1).numpy() for part in (attention.query, attention.key))
            strength = np.exp(query.T @ key)
            matrices.append(0.5 * strength / strength.sum(1, keepdims=True) + 0.5 * np.eye(9))
        expected = (matrices[1] @ matrices[0]).mean(0).reshape(3, 3)
        np.testing.assert_allclose(found[index, 0].numpy(), expected, rtol=1e-4)


@torch.no_grad()
def test_pooled_keys_are_divided_among_their_places() -> None:
    torch.manual_seed(0)
    attention = layer(pooling=2)
    features = torch.randn(1, 8, 4, 4)
    found = mixing(attention, features, 1.0)[0].numpy()
    keys = attention.weights(features)[0].numpy()
    for row in range(4):
        for column in range(4):
            np.testing.assert_allclose(
                found[:, row * 4 + column], keys[:, row // 2 * 2 + column // 2] / 4, rtol=1e-5, atol=1e-8
            )


@torch.no_grad()
def test_a_layer_without_strength_looks_at_itself() -> None:
    features = torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(mixing(layer(gamma=0.0), features)[0], torch.eye(16))
    strong = mixing(layer(gamma=1e4), features)[0].diagonal().mean()
    assert float(strong) < 0.2


@torch.no_grad()
def test_a_smaller_map_stands_for_blocks() -> None:
    large, small = torch.eye(16)[None], torch.tensor([[[1.0, 0, 0, 0]] * 4])  # all look at the upper left quarter
    found = roll_out([(large, (4, 4)), (small, (2, 2))])[0, 0]
    expected = torch.zeros(4, 4)
    expected[:2, :2] = 0.25
    torch.testing.assert_close(found, expected)


def test_rollout_of_a_trunk_adds_up_to_1() -> None:
    torch.manual_seed(0)
    trunk = Trunk(64, 8).eval()
    for part in trunk.modules():
        if isinstance(part, SelfAttention):
            nn.init.constant_(part.gamma, 0.5)
    found = attention_rollout(trunk, trunk, torch.randn(3, 1, 64, 64))
    assert found.shape == (3, 1, 8, 8)
    torch.testing.assert_close(found.sum((1, 2, 3)), torch.ones(3))
    assert (found >= 0).all()
    assert float(found.std()) > 0


def test_networks_without_self_attention_are_refused() -> None:
    trunk = Trunk(64, 8, attention=False).eval()
    with pytest.raises(XrayError, match="no self-attention"):
        attention_rollout(trunk, trunk, torch.randn(1, 1, 64, 64))
    growing = nn.Sequential(layer(), nn.Upsample(scale_factor=2), layer())
    with pytest.raises(XrayError, match="shrink from layer to layer"):
        attention_rollout(growing, growing, torch.randn(1, 8, 4, 4))
