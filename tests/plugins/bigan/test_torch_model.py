from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from anomalib_xray_plugins.bigan.torch_model import SCORES, BiganModel


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def test_scores_are_their_formulas() -> None:
    torch.manual_seed(0)
    model = BiganModel(image_size=64, width=8, latent_size=16, feature_weight=0.25).eval()
    image = torch.rand(2, 1, 64, 64)
    image[:, :, :20] = 0
    output = model(image.repeat(1, 3, 1, 1))
    assert set(output.scores) | {"ssim", "ssim_top_k", "gradient", "gradient_top_k"} == set(SCORES)

    code = model.encoder(2 * image - 1)
    generated = model.generator(code)
    difference = array(image - (generated + 1) / 2)[:, :, 20:]
    logit = array(model.discriminator(2 * image - 1, code))
    generated_logit = array(model.discriminator(generated, code))
    features = [
        array(one - other).reshape(2, -1)
        for one, other in zip(
            model.discriminator.trunk.features(2 * image - 1)[-2:],
            model.discriminator.trunk.features(generated)[-2:],
            strict=True,
        )
    ]
    l1 = np.abs(difference).mean((1, 2, 3))
    matching = sum(np.abs(layer).mean(1) for layer in features) / 2
    expected = {
        "mse": np.square(difference).mean((1, 2, 3)),
        "l1": l1,
        "discriminator": -np.log(1 / (1 + np.exp(-logit))),
        "discriminator_difference": 1 / (1 + np.exp(-generated_logit)) - 1 / (1 + np.exp(-logit)),
        "feature_matching": matching,
        "feature_matching_signed": sum(layer.mean(1) for layer in features) / 2,
        "latent_distance": np.square(array(code - model.encoder(generated))).mean(1),
        "bigan": 0.75 * l1 + 0.25 * matching,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(array(output.scores[name]), values, rtol=1e-4, atol=1e-7, err_msg=name)


def test_evaluation_uses_the_averages() -> None:
    torch.manual_seed(0)
    model = BiganModel(image_size=64, width=8, latent_size=16, ema_decay=0.9).eval()
    image = torch.rand(2, 3, 64, 64)
    before = model(image).scores["mse"]
    with torch.no_grad():
        for weight in (*model.encoder.parameters(), *model.generator.parameters()):
            weight.add_(1)
    assert torch.equal(model(image).scores["mse"], before)
    assert model.encoder_average is not None
    with torch.no_grad():
        for weight in model.encoder_average.module.parameters():
            weight.add_(1)
    assert not torch.equal(model(image).scores["mse"], before)


def test_scores_of_a_critic_rank_as_its_output_far_from_0() -> None:
    torch.manual_seed(0)
    model = BiganModel(image_size=64, width=8, latent_size=16, adversarial_loss="wgan-gp").eval()
    image = torch.rand(5, 1, 64, 64)
    with torch.no_grad():
        model.discriminator.joint[-2].bias += 150  # the loss leaves a critic's zero point open
        scores = model(image.repeat(1, 3, 1, 1)).scores
        code = model.encoder(2 * image - 1)
        logit = model.discriminator(2 * image - 1, code)
        difference = model.discriminator(model.generator(code), code) - logit
    torch.testing.assert_close(scores["discriminator"], -logit)
    torch.testing.assert_close(scores["discriminator_difference"], difference)
    assert len(scores["discriminator"].unique()) == 5
