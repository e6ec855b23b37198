from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from anomalib_xray.components import SelfAttention
from anomalib_xray_plugins.alpha_gan.networks import (
    CodeDiscriminator,
    Discriminator,
    Encoder,
    Generator,
    Latent,
    level_channels,
)


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


@pytest.mark.parametrize("side", [64, 128])
def test_shapes(side: int) -> None:
    image, code = torch.rand(2, 1, side, side), torch.randn(2, 16)
    mean, deviation = Encoder(side, 8, 16, "linear", 2)(image)
    assert mean.shape == deviation.shape == (2, 16)
    generated = Generator(side, 8, 16, 2)(code)
    assert generated.shape == image.shape
    assert generated.abs().max() <= 1
    assert Discriminator(side, 8, 2)(image).shape == (2,)
    assert CodeDiscriminator(16)(code).shape == (2,)


def test_largest_size_can_be_built() -> None:
    generator = Generator(512, 8, 16, 2)
    positions = [index for index, layer in enumerate(generator.layers) if isinstance(layer, SelfAttention)]
    # three layers a level: attention follows the levels of 32 x 32 and 64 x 64, none the larger ones
    assert positions == [12, 16]
    assert len(Encoder(512, 8, 16, "linear", 2).trunk) == len(Discriminator(512, 8, 2).trunk) == 2 * 7 + 2


def test_encoder_has_the_parameters_of_its_table() -> None:
    width, code, side = 8, 16, 64
    widths = [1, width, 2 * width, 4 * width, 8 * width]
    convolutions = sum(16 * before * after + after for before, after in pairwise(widths))
    attention = sum(2 * (c * (c // 8) + c // 8) + c * c + c + 1 for c in widths[-2:])
    heads = 2 * (16 * widths[-1] * code + code)
    encoder = Encoder(side, width, code, "linear", 2)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == convolutions + attention + heads


@pytest.mark.parametrize("latent", ["linear", "tanh"])
def test_code_is_bounded_only_as_published(latent: Latent) -> None:
    torch.manual_seed(0)
    encoder = Encoder(64, 8, 16, latent, 2)
    with torch.no_grad():
        encoder.mean.weight *= 1000
        mean, deviation = encoder(torch.rand(4, 1, 64, 64) * 2 - 1)
    assert (mean.abs().max() <= 1) == (latent == "tanh")
    assert latent == "tanh" or (deviation > 0).all()


def test_discriminator_remembers_real_images_only_when_told() -> None:
    discriminator = Discriminator(64, 8, 2)
    discriminator(torch.rand(3, 1, 64, 64))
    assert discriminator.minibatch.stored == 0
    discriminator(torch.rand(3, 1, 64, 64), remember=True)
    assert discriminator.minibatch.stored == 3
