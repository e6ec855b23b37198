from __future__ import annotations

import pytest
import torch
from torch import nn

from anomalib_xray.components.sagan import Trunk
from anomalib_xray_plugins.bigan.networks import Encoder, PairDiscriminator
from anomalib_xray_plugins.bigan.torch_model import BiganModel


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def discriminator(spectral: bool = True) -> PairDiscriminator:
    return PairDiscriminator(Trunk(64, 8, spectral=spectral), 8, 16, spectral)


@pytest.mark.parametrize("side", [64, 128])
def test_shapes(side: int) -> None:
    image, code = torch.rand(2, 1, side, side), torch.randn(2, 16)
    assert Encoder(Trunk(side, 8), 16)(image).shape == (2, 16)
    assert PairDiscriminator(Trunk(side, 8), 8, 16, True)(image, code).shape == (2,)


def test_networks_have_the_published_parameters() -> None:
    model = BiganModel(128, 64, 100)
    assert parameters(model.generator) == pytest.approx(12.8e6, abs=0.05e6)
    assert parameters(model.encoder) == pytest.approx(14.4e6, abs=0.05e6)
    assert parameters(model.discriminator) == pytest.approx(32.5e6, abs=0.05e6)
    assert parameters(model) == pytest.approx(59.7e6, abs=0.05e6)


def test_code_is_not_bounded() -> None:
    encoder = Encoder(Trunk(64, 8), 16)
    with torch.no_grad():
        encoder.head.weight *= 1000
    assert encoder(torch.rand(4, 1, 64, 64)).abs().max() > 1


def test_discriminator_looks_at_image_and_code() -> None:
    network = discriminator().eval()
    image, code = torch.rand(2, 1, 64, 64, requires_grad=True), torch.randn(2, 16, requires_grad=True)
    of_image, of_code = torch.autograd.grad(network(image, code).sum(), [image, code])
    for gradient in (of_image, of_code):
        assert (gradient.flatten(1).abs().amax(1) > 0).all()


def test_pairs_do_not_mix() -> None:
    network = discriminator(spectral=False).train()
    image, code = torch.rand(3, 1, 64, 64), torch.randn(3, 16)
    alone = torch.cat([network(image[i : i + 1], code[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(image, code), alone)


@pytest.mark.parametrize("spectral", [True, False])
def test_all_layers_but_the_last_are_spectrally_normalised(spectral: bool) -> None:
    network = discriminator(spectral)
    layers = [*network.image_head, *network.code_branch, *network.joint]
    learning = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert [hasattr(layer, "parametrizations") for layer in learning] == [spectral] * 5 + [False]


def test_matched_features_are_those_of_the_last_two_levels() -> None:
    network = discriminator().eval()
    image, code = torch.rand(2, 1, 64, 64), torch.randn(2, 16)
    wide, last = network.matched_features(image)
    assert wide.shape == (2, 32, 8, 8)
    torch.testing.assert_close(network.judge(last, code), network(image, code))
