from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from anomalib_xray.scores import ReconstructionScorer
from anomalib_xray_plugins.ano_gan.torch_model import SCORES, AnoGanModel


def small(**settings: Any) -> AnoGanModel:
    tiny = {"image_size": 64, "width": 4, "discriminator_width": 4, "latent_size": 16, "search_steps": 5}
    return AnoGanModel(**{**tiny, **settings})


def radiographs(count: int) -> torch.Tensor:
    image = torch.rand(count, 1, 64, 64, generator=torch.Generator().manual_seed(count)) * 0.9 + 0.1
    image[..., :20] = 0
    return image


def test_scores_compare_the_image_with_the_closest_one() -> None:
    torch.manual_seed(0)
    model = small(feature_weight=0.3, scorer=ReconstructionScorer("mse_top_k", 10, 1.0, ["ssim"])).eval()
    image = radiographs(2)
    scores = model(image.repeat(1, 3, 1, 1)).scores
    assert set(scores) == set(SCORES)
    closest = model.reconstruct(image)
    mask = image > 0
    for index in range(2):
        error = (image - closest)[index][mask[index]].numpy()
        assert scores["residual"][index].item() == pytest.approx(np.abs(error).mean(), rel=1e-4)
        assert scores["mse"][index].item() == pytest.approx((error**2).mean(), rel=1e-4)
        assert scores["mse_top_k"][index].item() == pytest.approx(np.sort(error**2)[-10:].mean(), rel=1e-4)
    with torch.no_grad():
        last, last_of_closest = (model.discriminator.features(2 * some - 1)[-1] for some in (image, closest))
        logit = model.discriminator(2 * image - 1).numpy()
    expected = (last - last_of_closest).abs().mean((1, 2, 3)).numpy()
    np.testing.assert_allclose(scores["feature"].numpy(), expected, rtol=1e-4)
    np.testing.assert_allclose(
        scores["anogan"].numpy(), 0.7 * scores["residual"].numpy() + 0.3 * scores["feature"].numpy(), rtol=1e-5
    )
    np.testing.assert_allclose(scores["discriminator"].detach().numpy(), np.log1p(np.exp(-logit)), rtol=1e-5)


def test_more_steps_come_closer() -> None:
    torch.manual_seed(0)
    model = small().eval()
    batch = radiographs(3).repeat(1, 3, 1, 1)
    scores = {}
    for steps in (1, 50):
        model.search_steps = steps
        scores[steps] = model(batch).scores
    assert (scores[50]["anogan"] < scores[1]["anogan"]).all()
    assert (scores[50]["mse"] < scores[1]["mse"]).all()
    assert torch.equal(scores[50]["discriminator"], scores[1]["discriminator"])


def test_starts_are_zeros_and_then_draws_that_are_kept() -> None:
    torch.manual_seed(0)
    model = small(restarts=3)
    assert (model.starts[0] == 0).all()
    assert len(model.starts.unique(dim=0)) == 3
    other = small(restarts=3)
    assert not torch.equal(other.starts, model.starts)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.starts, model.starts)


def test_features_of_the_images_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(restarts=2, search_steps=3).eval()
    calls = []
    features = model.discriminator.features
    monkeypatch.setattr(model.discriminator, "features", lambda *inputs: (calls.append(1), features(*inputs))[1])
    model(radiographs(1).repeat(1, 3, 1, 1))
    assert len(calls) == 1 + 2 * (3 + 1)


def test_a_search_leaves_no_gradient_and_no_frozen_weight() -> None:
    model = small().train()
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    output = model(radiographs(1).repeat(1, 3, 1, 1))
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())
    assert not output.scores["anogan"].requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(("norm", "layers"), [("batch", 4), ("none", 0)])
def test_generator_has_batch_normalisation_if_asked(norm: Any, layers: int) -> None:
    found = [layer for layer in small(norm=norm).generator.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(found) == layers


def test_the_average_generates_in_evaluation() -> None:
    torch.manual_seed(0)
    model = small(ema_decay=0.9).eval()
    image = radiographs(1)
    before = model.reconstruct(image)
    for weight in model.generator.parameters():
        weight.data.zero_()
    assert torch.equal(model.reconstruct(image), before)


def test_a_critics_score_ranks_as_its_output_far_from_0() -> None:
    torch.manual_seed(0)
    model = small(adversarial_loss="wgan-gp").eval()
    image = radiographs(5)
    with torch.no_grad():
        model.discriminator.head.bias += 150  # the loss leaves a critic's zero point open
        score = model(image.repeat(1, 3, 1, 1)).scores["discriminator"]
        torch.testing.assert_close(score, -model.discriminator(2 * image - 1))
    assert len(score.unique()) == 5
