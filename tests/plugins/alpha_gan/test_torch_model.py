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
