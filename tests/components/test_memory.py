from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from anomalib_xray.components.memory import Memory, hard_shrink, memory_entropy
from anomalib_xray.errors import XrayError


@pytest.mark.parametrize("addressing", ["dot", "cosine"])
@pytest.mark.parametrize("shrink", [0.0, 0.2])
def test_a_code_becomes_the_weighted_mean_of_the_items(addressing: Any, shrink: float) -> None:
    torch.manual_seed(0)
    memory = Memory(5, 4, addressing, shrink).double()
    code = torch.randn(3, 4, dtype=torch.float64)
    recalled, weights = memory(code)

    items, z = memory.items.detach().numpy(), code.numpy()
    likeness = z @ items.T
    if addressing == "cosine":
        likeness = likeness / np.linalg.norm(z, axis=1)[:, None] / np.linalg.norm(items, axis=1)
    expected = np.exp(likeness) / np.exp(likeness).sum(1, keepdims=True)
    if shrink:
        assert (expected < shrink).any()
        expected = np.where(expected > shrink, expected, 0)
        expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(weights.detach().numpy(), expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(recalled.detach().numpy(), expected @ items, rtol=1e-9, atol=1e-12)


def test_items_start_within_a_small_cube() -> None:
    items = Memory(1000, 16).items
    assert items.abs().max() <= 0.25
    assert items.abs().max() > 0.24


def test_small_weights_that_leave_nothing_give_zeros() -> None:
    assert torch.equal(hard_shrink(torch.full((1, 4), 0.25), 0.3), torch.zeros(1, 4))


def test_entropy_is_the_mean_in_nats() -> None:
    weights = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert memory_entropy(weights).item() == pytest.approx(np.log(2) / 2, rel=1e-5)


def test_gradient_reaches_code_and_items() -> None:
    memory = Memory(6, 4, shrink=0.05)
    code = torch.randn(2, 4, requires_grad=True)
    memory(code)[0].square().sum().backward()
    assert code.grad is not None
    assert code.grad.abs().sum() > 0
    assert memory.items.grad is not None
    assert memory.items.grad.abs().sum() > 0


@pytest.mark.parametrize("setting", [{"items": 0}, {"shrink": 1.0}, {"shrink": -0.1}])
def test_refuses_a_memory_that_remembers_nothing(setting: dict[str, Any]) -> None:
    with pytest.raises(XrayError, match=r"memory_(items|shrink)"):
        Memory(**setting)
