from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from anomalib_xray.networks.attention import SelfAttention
from anomalib_xray.networks.sagan import (
    Generator,
    Trunk,
    level_channels,
    maybe_spectral,
    to_tanh_range,
    to_unit_range,
)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def attention_parameters(channels: int) -> int:
    """Two 1 x 1 convolutions to an eighth of the channels, one to all of them, and the strength."""
    return 2 * (channels * (channels // 8) + channels // 8) + channels * channels + channels + 1


@pytest.mark.parametrize(
    ("side", "channels"),
    [
        (64, [64, 128, 256, 512]),
        (128, [64, 128, 256, 512, 1024]),  # as published
        (512, [64, 128, 256, 512, 1024, 1024, 1024]),
    ],
)
def test_channels_double_up_to_16_times_the_first(side: int, channels: list[int]) -> None:
    assert level_channels(side, 64) == channels


@pytest.mark.parametrize("side", [64, 128, 256])
def test_shapes(side: int) -> None:
    trunk, generator = Trunk(side, 8), Generator(side, 8, 16)
    generated = generator(torch.randn(2, 16))
    assert generated.shape == (2, 1, side, side)
    assert generated.abs().max() <= 1
    features = trunk.features(generated)
    assert [tuple(level.shape[1:]) for level in features] == [
        (channels, side >> level, side >> level) for level, channels in enumerate(level_channels(side, 8), start=1)
    ]
    assert trunk(generated).shape == (2, trunk.channels, 4, 4)


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("spectral", [True, False])
def test_trunk_has_the_parameters_of_its_table(attention: bool, spectral: bool) -> None:
    widths = [1, 8, 16, 32, 64]
    expected = sum(16 * before * after + after for before, after in pairwise(widths))
    expected += sum(attention_parameters(channels) for channels in widths[-2:]) if attention else 0
    assert parameters(Trunk(64, 8, attention, spectral=spectral)) == expected


def test_generator_has_the_published_parameters() -> None:
    assert parameters(Generator(128, 64, 100)) == pytest.approx(12.8e6, abs=0.05e6)


def test_attention_follows_the_largest_levels_up_to_64() -> None:
    generator = Generator(512, 8, 16)
    positions = [index for index, layer in enumerate(generator.layers) if isinstance(layer, SelfAttention)]
    # three layers a level: attention follows the levels of 32 x 32 and 64 x 64, none the larger ones
    assert positions == [12, 16]
    trunk = Trunk(512, 8)
    with_attention = [
        index for index, level in enumerate(trunk.levels) if any(isinstance(layer, SelfAttention) for layer in level)
    ]
    assert with_attention == [5, 6]


@pytest.mark.parametrize("pooling", [1, 2])
def test_pooling_reaches_every_attention(pooling: int) -> None:
    for network in (Trunk(64, 8, pooling=pooling), Generator(64, 8, 16, pooling=pooling)):
        assert [layer.pooling for layer in network.modules() if isinstance(layer, SelfAttention)] == [pooling] * 2


def test_codes_whose_images_are_not_wanted_count_in_the_batch_statistics() -> None:
    torch.manual_seed(0)
    networks = [Generator(16, 8, 4) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    codes = torch.randn(6, 4)
    torch.testing.assert_close(networks[0](codes)[:2], networks[1](codes, wanted=2))
    torch.testing.assert_close(networks[0].state_dict(), networks[1].state_dict())


@pytest.mark.parametrize("attention", [True, False])
def test_attention_can_be_left_out(attention: bool) -> None:
    for network in (Trunk(64, 8, attention), Generator(64, 8, 16, attention)):
        assert any(isinstance(layer, SelfAttention) for layer in network.modules()) == attention


def test_spectral_normalisation_makes_the_largest_singular_value_1() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    largest = np.linalg.svd(layer.weight.detach().numpy())[1].max()
    plain = layer.weight.detach().clone()
    normalised = maybe_spectral(layer, True)
    for _ in range(50):
        normalised(torch.rand(1, 6))
    torch.testing.assert_close(normalised.eval().weight, plain / largest, rtol=1e-3, atol=1e-4)
    other = nn.Linear(6, 4)
    assert maybe_spectral(other, False) is other
    assert not hasattr(other, "parametrizations")


def test_all_convolutions_but_the_generators_last_are_normalised() -> None:
    for network, plain in ((Trunk(64, 8), 0), (Generator(64, 8, 16), 1)):
        layers = [
            layer
            for layer in network.modules()
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.kernel_size == (4, 4)
        ]
        normalised = [hasattr(layer, "parametrizations") for layer in layers]
        assert normalised == [True] * (len(layers) - plain) + [False] * plain


def test_ranges_of_images_and_of_the_generator() -> None:
    torch.testing.assert_close(to_tanh_range(torch.tensor([0.0, 0.5, 1.0])), torch.tensor([-1.0, 0.0, 1.0]))
    torch.testing.assert_close(to_unit_range(torch.tensor([-1.0, 0.0, 1.0])), torch.tensor([0.0, 0.5, 1.0]))
