from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_xray.networks.latent import Latent
from anomalib_xray.networks.sagan import Trunk
from anomalib_xray_plugins.alpha_gan.torch_model import SCORES, AlphaGanModel, CodeDiscriminator, Discriminator, Encoder


def test_scores_come_from_the_mean_code() -> None:
    torch.manual_seed(0)
    model = AlphaGanModel(image_size=64, width=8, latent_size=16, references=50, patches=True).eval()
    image = torch.rand(2, 1, 64, 64)
    model.remember(torch.rand(2, 1, 64, 64), torch.Generator().manual_seed(0))
    output = model(image.repeat(1, 3, 1, 1))
    # those from other errors are computed on request
    assert {*output.scores, "ssim", "ssim_top_k", "gradient", "gradient_top_k"} == set(SCORES)

    mean, _ = model.encoder(2 * image - 1)
    reconstruction = (model.generator(mean) + 1) / 2
    judged = model.discriminator(2 * image - 1), model.code_discriminator(mean)
    image_score, code_score = (-np.log(1 / (1 + np.exp(-logit.detach().numpy()))) for logit in judged)
    of_generated = model.discriminator(2 * reconstruction - 1).detach().numpy()
    features, encoded = (
        [
            (one - other).flatten(1).detach().numpy()
            for one, other in zip(
                trunk.features(2 * image - 1)[-2:], trunk.features(2 * reconstruction - 1)[-2:], strict=True
            )
        ]
        for trunk in (model.discriminator.trunk, model.encoder.trunk)
    )
    places = model.discriminator.trunk.features(2 * image - 1)[1]
    assert places.shape == (2, 16, 16, 16)
    assert model.memory is not None
    assert model.best_patch_discriminator is not None
    patches = model.best_patch_discriminator(2 * image - 1).detach().numpy()
    again, _ = model.encoder(2 * reconstruction - 1)
    expected = {
        "mse": (image - reconstruction).square().mean((1, 2, 3)).detach().numpy(),
        "l1": (image - reconstruction).abs().mean((1, 2, 3)).detach().numpy(),
        "discriminator": image_score,
        "code_discriminator": code_score,
        "discriminators_mean": (image_score + code_score) / 2,
        "discriminators_mean_probability": 1 - (np.exp(-image_score) + np.exp(-code_score)) / 2,
        "discriminator_difference": 1 / (1 + np.exp(-of_generated)) - np.exp(-image_score),
        "feature_matching": sum(np.abs(layer).mean(1) for layer in features) / 2,
        "feature_matching_signed": sum(layer.mean(1) for layer in features) / 2,
        "encoder_feature_matching": sum(np.abs(layer).mean(1) for layer in encoded) / 2,
        "feature_distance": model.memory(places, torch.ones(2, 1, 64, 64)).mean((1, 2, 3)).detach().numpy(),
        # Bilinear enlargement by four keeps the mean.
        "patch_discriminator": -np.log(1 - 1 / (1 + np.exp(-patches))).mean((1, 2, 3)),
        "latent_distance": (mean - again).square().mean(1).detach().numpy(),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(output.scores[name].detach().numpy(), values, rtol=1e-4, atol=1e-7, err_msg=name)


def test_code_discriminators_score_tells_images_apart_with_a_linear_code() -> None:
    torch.manual_seed(0)
    model = AlphaGanModel(image_size=64, width=8, latent_size=16, latent="linear").eval()
    with torch.no_grad():
        mean_layer = model.encoder.head.mean
        assert isinstance(mean_layer, torch.nn.Conv2d)
        mean_layer.weight *= 100
        scores = model(torch.rand(8, 1, 64, 64).repeat(1, 3, 1, 1)).scores["code_discriminator"]
    assert len(set(scores.tolist())) == len(scores)


def test_scores_of_critics_rank_as_their_outputs_far_from_0() -> None:
    torch.manual_seed(0)
    model = AlphaGanModel(64, 8, 16, spectral_norm=False, code_spectral_norm=False, adversarial_loss="wgan-gp").eval()
    image = torch.rand(5, 1, 64, 64)
    with torch.no_grad():
        for last in (model.discriminator.head, model.code_discriminator[4]):
            last.bias += 150  # the loss leaves a critic's zero point open
        model.encoder.head.mean.weight *= 100
        scores = model(image.repeat(1, 3, 1, 1)).scores
        code = model.encoder(2 * image - 1)[0]
        of_image, of_code = model.discriminator(2 * image - 1), model.code_discriminator(code)
        of_generated = model.discriminator(model.generator(code))
    expected = {
        "discriminator": -of_image,
        "code_discriminator": -of_code,
        "discriminators_mean": -(of_image + of_code) / 2,
        "discriminator_difference": of_generated - of_image,
    }
    for name, values in expected.items():
        torch.testing.assert_close(scores[name], values, rtol=1e-6, atol=1e-4)
        assert len(scores[name].unique()) == 5, name
    assert "discriminators_mean_probability" not in scores


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
