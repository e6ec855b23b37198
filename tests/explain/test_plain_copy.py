from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from anomalib_xray.explain.lrp import plain_copy


def test_a_plain_copy_computes_the_same() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Sequential(spectral_norm(nn.Conv2d(1, 4, 3)), nn.BatchNorm2d(4), nn.LeakyReLU(0.1, inplace=True)),
        nn.Sequential(nn.ConvTranspose2d(4, 2, 3), nn.BatchNorm2d(2)),
        nn.Flatten(),
        nn.Sequential(spectral_norm(nn.Linear(128, 3)), nn.BatchNorm1d(3)),
    )
    for _ in range(3):
        network(torch.randn(8, 1, 8, 8) * 2 + 1)  # so that means and spectral norms are not the initial ones
    network.train()
    names = set(network.state_dict())
    copy = plain_copy(network)
    assert network.training
    assert any(is_parametrized(layer) for layer in network.modules())
    assert set(network.state_dict()) == names
    assert not any(
        is_parametrized(layer) or isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in copy.modules()
    )
    assert not any(getattr(layer, "inplace", False) for layer in copy.modules())
    image = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(copy(image), network.eval()(image), rtol=1e-4, atol=1e-5)
