from __future__ import annotations

import numpy as np
import torch

from anomalib_xray_plugins.alpha_gan.torch_model import SCORES, AlphaGanModel, to_tanh_range, to_unit_range


def test_scores_come_from_the_mean_code() -> None:
    torch.manual_seed(0)
    model = AlphaGanModel(image_size=64, width=8, latent_size=16).eval()
    image = torch.rand(2, 1, 64, 64)
    output = model(image.repeat(1, 3, 1, 1))
    assert tuple(output.scores) == SCORES

    mean, _ = model.encoder(2 * image - 1)
    reconstruction = (model.generator(mean) + 1) / 2
    judged = model.discriminator(2 * image - 1), model.code_discriminator(mean)
    image_score, code_score = (-np.log(1 / (1 + np.exp(-logit.detach().numpy()))) for logit in judged)
    expected = {
        "mse": (image - reconstruction).square().mean((1, 2, 3)).detach().numpy(),
        "l1": (image - reconstruction).abs().mean((1, 2, 3)).detach().numpy(),
        "discriminator": image_score,
        "code_discriminator": code_score,
        "discriminators_mean": (image_score + code_score) / 2,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(output.scores[name].detach().numpy(), values, rtol=1e-4, err_msg=name)


def test_ranges_of_images_and_of_the_generator() -> None:
    torch.testing.assert_close(to_tanh_range(torch.tensor([0.0, 0.5, 1.0])), torch.tensor([-1.0, 0.0, 1.0]))
    torch.testing.assert_close(to_unit_range(torch.tensor([-1.0, 0.0, 1.0])), torch.tensor([0.0, 0.5, 1.0]))
