from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from anomalib_xray_plugins.f_ano_gan.networks import (
    Code,
    Critic,
    Encoder,
    Generator,
    PooledConv2d,
    Trunk,
    UpsampledConv2d,
    level_channels,
    make_generator,
)


def convolution(side: int, inputs: int, outputs: int) -> int:
    return side**2 * inputs * outputs + outputs


def test_channels_are_the_published_ones() -> None:
    assert level_channels(64, 64) == [64, 128, 256, 512, 512]
    assert level_channels(512, 64) == [64, 128, 256, 512, 512, 512, 512, 512]


@pytest.mark.parametrize("side", [64, 128, 256, 512])
def test_shapes(side: int) -> None:
    image, code = torch.rand(2, 1, side, side), torch.randn(2, 16)
    generated = Generator(side, 2, 16)(code)
    assert generated.shape == image.shape
    assert generated.abs().max() <= 1
    critic = Critic(side, 2)
    features = critic.features(image)
    assert features.shape == (2, 16 * 4 * 4)
    assert critic(image).shape == (2,)
    assert torch.equal(critic.judge(features), critic(image))
    assert Encoder(side, 2, 16)(image).shape == (2, 16)


@pytest.mark.parametrize("side", [64, 128, 512])
def test_plain_levels_have_the_same_shapes(side: int) -> None:
    image, code = torch.rand(2, 1, side, side), torch.randn(2, 16)
    generated = make_generator(side, 4, 16, "plain")(code)
    assert generated.shape == image.shape
    assert generated.abs().max() <= 1
    critic = Critic(side, 4, "plain")
    assert critic.features(image).shape == (2, critic.trunk.size)
    assert critic(image).shape == (2,)
    assert Encoder(side, 4, 16, blocks="plain")(image).shape == (2, 16)


def test_a_plain_level_is_one_convolution() -> None:
    widths = [1, 64, 128, 256, 512]
    trunk = sum(convolution(4, inputs, outputs) for inputs, outputs in pairwise(widths))
    normalised = sum(2 * outputs for outputs in widths[2:])
    critic = Critic(64, 64, "plain")
    assert sum(parameter.numel() for parameter in critic.parameters()) == trunk + normalised + 512 * 16 + 1


def test_plain_features_of_an_image_do_not_depend_on_others() -> None:
    critic = Critic(64, 4, "plain").train()
    images = torch.rand(3, 1, 64, 64)
    torch.testing.assert_close(critic.features(images)[:1], critic.features(images[:1]))


def test_parameters_are_those_of_the_published_blocks() -> None:
    """Two 3 x 3 convolutions, two normalisations and a 1 x 1 shortcut a block; counted layer by layer at 64 pixels."""
    channels = [64, 128, 256, 512, 512]
    trunk = convolution(3, 1, 64)
    for inputs, outputs in pairwise(channels):
        trunk += convolution(3, inputs, inputs) + convolution(3, inputs, outputs) + convolution(1, inputs, outputs)
        trunk += 2 * 2 * inputs
    generator = 128 * 8192 + 8192 + 2 * 64 + convolution(3, 64, 1)
    for inputs, outputs in pairwise(channels[::-1]):
        generator += convolution(3, inputs, outputs) + convolution(3, outputs, outputs)
        generator += convolution(1, inputs, outputs) + 2 * inputs + 2 * outputs
    expected = {
        Critic(64, 64): trunk + 8192 + 1,
        Encoder(64, 64, 128): trunk + 8192 * 128 + 128,
        Generator(64, 64, 128): generator,
    }
    for network, count in expected.items():
        assert sum(parameter.numel() for parameter in network.parameters()) == count


@pytest.mark.parametrize("latent", ["linear", "tanh"])
def test_code_is_bounded_only_as_published(latent: Code) -> None:
    torch.manual_seed(0)
    encoder = Encoder(64, 2, 16, latent)
    code = encoder(100 * torch.rand(4, 1, 64, 64))
    with torch.no_grad():
        encoder.layers[1].weight *= 100
        code = encoder(torch.rand(4, 1, 64, 64))
    assert (code.abs().max() <= 1) == (latent == "tanh")


def test_the_critic_judges_each_image_on_its_own() -> None:
    torch.manual_seed(0)
    critic, image = Critic(64, 2).train(), torch.rand(3, 1, 64, 64)
    for index in range(3):
        torch.testing.assert_close(critic(image[index : index + 1]), critic(image)[index : index + 1])


def test_normalisation_is_over_the_whole_layer_of_an_image() -> None:
    """Layer normalisation: no channel has statistics of its own, other than with instance normalisation."""
    block = Trunk(64, 2)[1].residual[0]
    features = torch.randn(2, 2, 8, 8) * torch.tensor([1.0, 9.0])[:, None, None] + 3
    flat = features.flatten(1)
    mean, deviation = flat.mean(1)[:, None, None, None], flat.std(1, correction=0)[:, None, None, None]
    torch.testing.assert_close(block(features), (features - mean) / deviation, atol=1e-4, rtol=1e-4)


def test_gradients_reach_every_weight() -> None:
    generator, critic, encoder = Generator(64, 2, 16), Critic(64, 2), Encoder(64, 2, 16)
    critic(generator(encoder(torch.rand(3, 1, 64, 64)))).sum().backward()
    for network in (generator, critic, encoder):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name


def test_convolutions_that_change_the_size_are_those_beside_pooling_and_upsampling() -> None:
    features = torch.randn(2, 3, 8, 8)
    for layer, beside in (
        (PooledConv2d(3, 5), lambda plain: nn.Sequential(plain, nn.AvgPool2d(2))),
        (UpsampledConv2d(3, 5), lambda plain: nn.Sequential(nn.Upsample(scale_factor=2), plain)),
    ):
        plain = nn.Conv2d(3, 5, 3, padding=1)
        plain.load_state_dict(layer.state_dict())
        made, expected = layer(features), beside(plain)(features)
        torch.testing.assert_close(made, expected)
        for network, result in ((layer, made), (plain, expected)):
            result.square().sum().backward()
            assert network.weight.grad is not None
        torch.testing.assert_close(layer.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-4)
