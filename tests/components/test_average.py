from __future__ import annotations

import pytest
import torch
from torch import nn

from anomalib_xray.components import moving_average
from anomalib_xray.errors import XrayError


def test_weights_follow_the_formula_and_buffers_are_the_networks() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = moving_average(network, 0.75)
    assert average is not None
    expected = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    for _ in range(3):
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(torch.randn_like(weight))
        network(torch.randn(5, 3))
        average.update_parameters(network)
        # torch starts from a copy at the first update
        expected = {
            name: weight.detach().clone() if average.n_averaged == 1 else 0.75 * expected[name] + 0.25 * weight.detach()
            for name, weight in network.named_parameters()
        }
    for name, weight in average.module.named_parameters():
        torch.testing.assert_close(weight, expected[name])
        assert not weight.requires_grad
    for name, buffer in average.module.named_buffers():
        assert torch.equal(buffer, network.get_buffer(name))
    assert not average.module.training


def test_no_decay_is_no_average() -> None:
    assert moving_average(nn.Linear(1, 1), 0) is None


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_impossible_decays_are_refused(decay: float) -> None:
    with pytest.raises(XrayError, match="ema_decay"):
        moving_average(nn.Linear(1, 1), decay)
