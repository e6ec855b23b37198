from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_xray.networks.adversarial import AdversarialLoss
from anomalib_xray.scores import ReconstructionScorer
from anomalib_xray_plugins.f_ano_gan.torch_model import SCORES, FAnoGanModel


def masked_image() -> torch.Tensor:
    image = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0)).clamp(min=0.01)
    image[:, :, :20] = 0
    return image


@pytest.mark.parametrize("kind", ["wgan-gp", "log", "hinge"])
def test_scores_are_their_formulas(kind: AdversarialLoss) -> None:
    torch.manual_seed(0)
    weight = 3.0
    scorer = ReconstructionScorer("anogan", 0.1, 1.0, ["ssim", "gradient"])
    model = FAnoGanModel(64, 2, 16, feature_weight=weight, adversarial_loss=kind, scorer=scorer).eval()
    image = masked_image()
    output = model(image.repeat(1, 3, 1, 1))
    assert set(output.scores) == set(SCORES)
    assert output.pred_score is output.scores["anogan"]

    with torch.no_grad():
        real = 2 * image - 1
        code = model.encoder(real)
        generated = model.generator(code)
        features = [model.discriminator.trunk(one).numpy() for one in (real, generated)]
        again = model.encoder(generated)
        logit = model.discriminator(real).double().numpy()
    inside = image.numpy() > 0
    residual = np.array([np.mean((real - generated).numpy()[index][inside[index]] ** 2) for index in range(len(image))])
    feature = ((features[0] - features[1]) ** 2).mean(1)
    expected = {
        "residual": residual,
        "mse": residual / 4,  # images in [0, 1] instead of [-1, 1]
        "feature": feature,
        "anogan": (residual + weight * feature) / (1 + weight),
        "latent_distance": ((code - again).numpy() ** 2).mean(1),
        "discriminator": -logit if kind == "wgan-gp" else np.log1p(np.exp(-logit)),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(output.scores[name].detach().numpy(), values, rtol=1e-4, atol=1e-7, err_msg=name)


def test_a_wasserstein_critics_score_does_not_tie_far_from_0() -> None:
    model = FAnoGanModel(64, 2, 16).eval()
    with torch.no_grad():
        model.discriminator.head.bias += 500  # the loss leaves the critic's zero point open
        scores = model(masked_image().repeat(1, 3, 1, 1)).scores["discriminator"]
    assert len(scores.unique()) == 3


def test_evaluation_generates_with_the_moving_average() -> None:
    torch.manual_seed(0)
    model = FAnoGanModel(64, 2, 16, ema_decay=0.9).eval()
    before = model.reconstruct(masked_image())
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter += 0.5
    assert torch.equal(model.reconstruct(masked_image()), before)
    model.average.update_parameters(model.generator)
    model.average.update_parameters(model.generator)
    assert not torch.equal(model.reconstruct(masked_image()), before)
