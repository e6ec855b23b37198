from __future__ import annotations

import pytest
import torch

from anomalib_xray.components import Latent
from anomalib_xray.components.sagan import Trunk
from anomalib_xray_plugins.alpha_gan.networks import CodeDiscriminator, Discriminator, Encoder
from anomalib_xray_plugins.alpha_gan.torch_model import AlphaGanModel


def discriminator(minibatch_discrimination: bool = True, spectral: bool = True) -> Discriminator:
    return Discriminator(Trunk(64, 8, spectral=spectral), minibatch_discrimination, spectral)


def parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("side", [64, 128])
def test_shapes(side: int) -> None:
    image, code = torch.rand(2, 1, side, side), torch.randn(2, 16)
    mean, deviation = Encoder(Trunk(side, 8), 16, "linear")(image)
    assert mean.shape == deviation.shape == (2, 16)
    assert Discriminator(Trunk(side, 8), True, True)(image).shape == (2,)
    assert CodeDiscriminator(16)(code).shape == (2,)


def test_networks_have_the_published_parameters() -> None:
    model = AlphaGanModel(128, 64, 100)
    assert parameters(model.generator) == pytest.approx(12.8e6, abs=0.05e6)
    assert parameters(model.encoder) == pytest.approx(16.1e6, abs=0.05e6)
    assert parameters(model.code_discriminator) == 6351
    # 281.2 M less the 268.4 M of the matrix of its minibatch discrimination, which has low rank here
    minibatch = model.discriminator.minibatch
    assert minibatch is not None
    assert parameters(model.discriminator) - parameters(minibatch) == pytest.approx(281.2e6 - 268.4e6, abs=0.1e6)
    assert parameters(minibatch) < 0.005 * 268.4e6


@pytest.mark.parametrize("latent", ["linear", "tanh"])
def test_code_is_bounded_only_as_published(latent: Latent) -> None:
    torch.manual_seed(0)
    encoder = Encoder(Trunk(64, 8), 16, latent)
    assert isinstance(encoder.head.mean, torch.nn.Conv2d)
    with torch.no_grad():
        encoder.head.mean.weight *= 1000
        mean, deviation = encoder(torch.rand(4, 1, 64, 64) * 2 - 1)
    assert (mean.abs().max() <= 1) == (latent == "tanh")
    assert latent == "tanh" or (deviation > 0).all()


def test_discriminator_remembers_real_images_only_when_told() -> None:
    network = discriminator()
    assert network.minibatch is not None
    network(torch.rand(3, 1, 64, 64))
    assert network.minibatch.stored == 0
    network(torch.rand(3, 1, 64, 64), remember=True)
    assert network.minibatch.stored == 3


def test_discriminator_without_minibatch_discrimination_judges_each_image_alone() -> None:
    network = discriminator(minibatch_discrimination=False, spectral=False)
    images = torch.rand(3, 1, 64, 64)
    alone = torch.cat([network(image[None], remember=True) for image in images])
    torch.testing.assert_close(network(images), alone)
    with_others = discriminator(spectral=False)
    assert not torch.allclose(with_others(images), torch.cat([with_others(image[None]) for image in images]))


def test_matched_features_are_those_of_the_last_two_levels() -> None:
    network = discriminator(minibatch_discrimination=False, spectral=False)
    image = torch.rand(2, 1, 64, 64)
    wide, last = network.matched_features(image)
    assert wide.shape == (2, 32, 8, 8)
    torch.testing.assert_close(last, network.trunk(image))
    torch.testing.assert_close(network.judge(last), network(image))
