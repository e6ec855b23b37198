from __future__ import annotations

import numpy as np
import torch

from anomalib_xray_plugins.alpha_gan.torch_model import SCORES, AlphaGanModel


def test_scores_come_from_the_mean_code() -> None:
    torch.manual_seed(0)
    model = AlphaGanModel(image_size=64, width=8, latent_size=16).eval()
    image = torch.rand(2, 1, 64, 64)
    output = model(image.repeat(1, 3, 1, 1))
    # those from other errors are computed on request
    assert {*output.scores, "ssim", "ssim_top_k", "gradient", "gradient_top_k"} == set(SCORES)

    mean, _ = model.encoder(2 * image - 1)
    reconstruction = (model.generator(mean) + 1) / 2
    judged = model.discriminator(2 * image - 1), model.code_discriminator(mean)
    image_score, code_score = (-np.log(1 / (1 + np.exp(-logit.detach().numpy()))) for logit in judged)
    of_generated = model.discriminator(2 * reconstruction - 1).detach().numpy()
    features = [
        (one - other).flatten(1).detach().numpy()
        for one, other in zip(
            model.discriminator.trunk.features(2 * image - 1)[-2:],
            model.discriminator.trunk.features(2 * reconstruction - 1)[-2:],
            strict=True,
        )
    ]
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
