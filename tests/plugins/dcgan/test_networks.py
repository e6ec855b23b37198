from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from anomalib_xray_plugins.dcgan.networks import Discriminator, Generator, Norm, doubling_channels


def parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_generator_has_the_published_size() -> None:
    generator = Generator(512, 16, 2048)
    channels = [2048, 1024, 512, 256, 128, 64, 32, 16, 1]
    assert doubling_channels(512, 16)[::-1] == channels[1:-1]
    assert parameters(generator) == sum(16 * before * after + after for before, after in pairwise(channels))
    assert round(parameters(generator) / 1e6, 1) == 44.7  # arXiv 2001.10883


def test_discriminator_has_the_published_convolutions_and_a_thin_minibatch_layer() -> None:
    discriminator = Discriminator(512, 4)
    channels = [1, 4, 8, 16, 32, 64, 128, 256, 512]
    convolutions = sum(16 * before * after + after for before, after in pairwise(channels))
    minibatch = 64 * 512 + 16 * 16 * 64
    assert parameters(discriminator) == convolutions + minibatch + (512 + 16 + 1)
    assert discriminator.head.in_features == 528  # arXiv 2001.10883, appendix


@pytest.mark.parametrize("side", [64, 128])
@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("spectral", [True, False])
def test_shapes(side: int, norm: Norm, spectral: bool) -> None:
    image = Generator(side, 4, 16, norm, spectral)(torch.randn(2, 16))
    assert image.shape == (2, 1, side, side)
    assert image.abs().max() <= 1
    discriminator = Discriminator(side, 4, True, spectral)
    assert discriminator(image).shape == (2,)
    features = discriminator.features(image)
    assert [level.shape[1:] for level in features] == [
        (4 * 2**level, side // 2 ** (level + 1), side // 2 ** (level + 1)) for level in range(len(features))
    ]
    assert features[-1].shape[2:] == (4, 4)
    assert len(discriminator.features(image, 2)) == 2
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in discriminator.modules()) == 0


@pytest.mark.parametrize("spectral", [True, False])
def test_spectral_norm_keeps_the_largest_singular_value_at_1(spectral: bool) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(64, 4, True, spectral)
    for _ in range(50):
        discriminator(torch.rand(2, 1, 64, 64))
    discriminator.eval()
    largest = [torch.linalg.matrix_norm(level[0].weight.flatten(1), 2).item() for level in discriminator.levels]
    assert (largest == pytest.approx([1.0] * len(largest), rel=0.02)) == spectral


def test_without_normalisation_a_sample_depends_on_its_code_alone() -> None:
    torch.manual_seed(0)
    codes = torch.randn(4, 16)
    for norm, alone in (("none", True), ("batch", False)):
        generator = Generator(64, 4, 16, norm, spectral=False).train()  # type: ignore[arg-type]  # strings of a tuple
        assert torch.allclose(generator(codes[:2]), generator(codes)[:2], atol=1e-6) == alone


def test_discriminator_remembers_real_images_only_when_told() -> None:
    discriminator = Discriminator(64, 4)
    assert discriminator.minibatch is not None
    discriminator(torch.rand(3, 1, 64, 64))
    assert discriminator.minibatch.stored == 0
    discriminator(torch.rand(3, 1, 64, 64), remember=True)
    assert discriminator.minibatch.stored == 3


def test_discriminator_without_minibatch_discrimination_ends_in_one_linear_layer() -> None:
    discriminator = Discriminator(64, 4, minibatch_discrimination=False).eval()
    features = discriminator.features(torch.rand(2, 1, 64, 64))[-1]
    expected = discriminator.vector(features) @ discriminator.head.weight.T + discriminator.head.bias
    torch.testing.assert_close(discriminator.judge(features), expected.flatten())
