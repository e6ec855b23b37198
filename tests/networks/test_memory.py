from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.memory import Memory, hard_shrink, memory_entropy


@pytest.mark.parametrize("addressing", ["dot", "cosine"])
@pytest.mark.parametrize("shrink", [0.0, 0.19])
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


def test_cosines_always_leave_an_item_within_their_range() -> None:
    torch.manual_seed(0)
    memory = Memory(25, 16, "cosine", 0.0399)
    _, weights = memory(torch.randn(200, 16))
    torch.testing.assert_close(weights.sum(1), torch.ones(200))


def test_a_threshold_that_can_take_all_cosines_is_refused() -> None:
    with pytest.raises(XrayError, match=r"memory_shrink is 0\.06, .* less than 0\.04"):
        Memory(25, 16, "cosine", 0.06)
    assert Memory(25, 16, "dot", 0.06).shrink == 0.06


def test_a_code_that_keeps_no_item_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory(25, 16, "dot", 0.2)
    near, far = torch.zeros(1, 16), 100 * memory.items.detach()[:1]
    with caplog.at_level(logging.WARNING):
        memory(far)
        assert not caplog.records
        memory(torch.cat([near, far]))
        memory(near)
    assert [record.getMessage() for record in caplog.records] == [
        "memory_shrink (0.2) leaves 1 of 2 codes no item of the memory: they are decoded from zeros. Lower it if this "
        "goes on."
    ]
