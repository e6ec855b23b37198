from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from torch import Tensor, nn

from anomalib_xray.scores import discriminator_difference, discriminator_score, mean_probability_score


def test_is_minus_log_probability_of_real() -> None:
    logit = torch.linspace(-30, 30, 121, dtype=torch.float64)
    probability = 1 / (1 + np.exp(-logit.numpy()))
    np.testing.assert_allclose(discriminator_score(logit), -np.log(probability), rtol=1e-6, atol=1e-14)


def test_ranks_as_the_published_score() -> None:
    logit = torch.from_numpy(np.random.default_rng(0).normal(0, 5, 200))
    published = 1 - torch.sigmoid(logit)
    assert torch.equal(discriminator_score(logit).argsort(), published.argsort())


def test_does_not_tie_where_the_published_score_does() -> None:
    very_fake = torch.tensor([-20.0, -25.0, -100.0, -1000.0])
    assert len((1 - torch.sigmoid(very_fake)).unique()) == 1
    score = discriminator_score(very_fake)
    assert (score.diff() > 0).all()
    assert torch.isfinite(score).all()


EXTREMES = [-3e38, -1e9, -1000.0, -149.99, -149.97, 87.0, 88.0, 103.0, 104.0, 149.97, 149.98, 149.99, 1e5, 1e9, 3e38]


class Scores(nn.Module):
    """All scores of a logit, to be exported."""

    def forward(self, logit: Tensor) -> tuple[Tensor, ...]:
        return (
            discriminator_score(logit),
            discriminator_score(logit, has_probabilities=False),
            discriminator_score(logit, logit),
            discriminator_score(logit, logit, has_probabilities=False),
        )


def test_ranks_as_the_logit_at_any_value_in_every_runtime(tmp_path: Path) -> None:
    logits = np.sort(np.concatenate([np.linspace(-70, 70, 1401), EXTREMES])).astype(np.float32)
    path = tmp_path / "scores.onnx"
    torch.onnx.export(Scores(), (torch.from_numpy(logits),), path, opset_version=18, dynamo=True, verbose=False)
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    exported = list(compiled([logits]).values())
    for found, of_torch in zip(exported, Scores()(torch.from_numpy(logits)), strict=True):
        np.testing.assert_allclose(found, of_torch.numpy(), rtol=1e-4)
        for values in (found, of_torch.numpy()):
            assert np.isfinite(values).all()
            assert (np.diff(values) < 0).all()


def test_a_critics_score_is_its_output_with_the_sign_changed() -> None:
    first, second = torch.tensor([149.97, -3.0]), torch.tensor([1.0, 2.0])
    assert torch.equal(discriminator_score(first, has_probabilities=False), -first)
    torch.testing.assert_close(
        discriminator_score(first, second, has_probabilities=False), torch.tensor([-75.485, 0.5])
    )


def test_mean_of_log_probabilities_keeps_the_order_where_both_discriminators_are_sure() -> None:
    first, second = torch.tensor([90.0, 90.0, 100.0, 2.0]), torch.tensor([120.0, 150.0, 150.0, 200.0])
    score = discriminator_score(first, second)
    assert score[0] == score[1]  # the smaller logit makes nearly all of the sum
    assert score[2] < score[1] < 0 < score[3]
    assert score[3] == pytest.approx(np.log1p(np.exp(-2.0)) / 2)


def test_published_mean_of_probabilities_ranks_differently_from_the_mean_of_log_probabilities() -> None:
    real = np.array([[0.9, 0.1], [0.4, 0.4], [0.5, 0.9]])
    logits = torch.from_numpy(np.log(real / (1 - real)).T)
    found = mean_probability_score(*logits)
    np.testing.assert_allclose(found, 1 - real.mean(1))
    np.testing.assert_allclose(discriminator_score(*logits), -np.log(real).mean(1))
    assert found[0] < found[1]
    assert discriminator_score(*logits)[0] > discriminator_score(*logits)[1]


def test_difference_is_that_of_the_probabilities_and_precise_at_both_ends() -> None:
    logits, others = torch.tensor([1.0, 30.0, -30.0, -2.0]), torch.tensor([-1.0, 31.0, -31.0, 3.0])
    one, other = (1 / (1 + np.exp(-values.double().numpy())) for values in (logits, others))
    expected = other - one
    expected[1] = np.exp(-30.0) - np.exp(-31.0)  # of which 1 - 1 leaves nothing
    np.testing.assert_allclose(discriminator_difference(logits, others), expected, rtol=1e-5)
    assert torch.equal(discriminator_difference(logits, others, has_probabilities=False), others - logits)
