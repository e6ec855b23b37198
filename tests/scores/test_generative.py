from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.distributions.kl import kl_divergence as divergence_of_torch

from anomalib_xray.openvino_runtime import openvino_core
from anomalib_xray.scores import (
    anogan_score,
    discriminator_difference,
    discriminator_score,
    feature_matching,
    feature_matching_signed,
    kl_divergence,
    kld_score,
    latent_distance,
    mean_probability_score,
)


@pytest.fixture
def mean() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 3, (6, 5)))


@pytest.fixture
def deviation() -> torch.Tensor:
    """From nearly certain codes to very wide ones."""
    return torch.from_numpy(10.0 ** np.random.default_rng(1).uniform(-4, 2, (6, 5)))


def test_divergence_is_torchs(mean: torch.Tensor, deviation: torch.Tensor) -> None:
    torch.testing.assert_close(
        kl_divergence(mean, deviation), divergence_of_torch(Normal(mean, deviation), Normal(0.0, 1.0))
    )


def test_divergence_is_its_integral() -> None:
    """The definition, ``integral of q log(q / p)``, on a fine grid."""
    code = np.linspace(-12, 12, 200_001)
    for mean, deviation in ((0.0, 1.0), (1.5, 0.4), (-0.7, 1.6)):
        q = np.exp(-0.5 * ((code - mean) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
        log_ratio = -0.5 * ((code - mean) / deviation) ** 2 - np.log(deviation) + 0.5 * code**2
        expected = np.trapezoid(q * log_ratio, code)
        found = kl_divergence(torch.tensor([[mean]]), torch.tensor([[deviation]]))
        assert float(found) == pytest.approx(expected, abs=1e-6)


def test_divergence_is_0_for_the_normal_distribution_alone(mean: torch.Tensor, deviation: torch.Tensor) -> None:
    assert (kl_divergence(torch.zeros(2, 3), torch.ones(2, 3)) == 0).all()
    assert (kl_divergence(mean, deviation) > 0).all()


def test_score_sums_over_the_code(mean: torch.Tensor, deviation: torch.Tensor) -> None:
    m, s = mean.numpy(), deviation.numpy()
    expected = (-0.5 * (1 + np.log(s**2) - m**2 - s**2)).sum(1)
    np.testing.assert_allclose(kld_score(mean, deviation), expected)


def test_latent_distance_is_the_mean_squared_difference(mean: torch.Tensor) -> None:
    other = mean.flip(0)
    expected = [np.mean((a - b) ** 2) for a, b in zip(mean.numpy(), other.numpy(), strict=True)]
    np.testing.assert_allclose(latent_distance(mean, other), expected)
    assert (latent_distance(mean, mean) == 0).all()


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
    compiled = openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
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


SHAPES = ((3, 4, 8, 8), (3, 16, 2, 2), (3, 5))


@pytest.fixture
def layers() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Features of three images and of their reconstructions, in layers of different sizes."""
    random = np.random.default_rng(0)
    first, second = ([torch.from_numpy(random.normal(size=shape)) for shape in SHAPES] for _ in range(2))
    return first, second


def test_layers_count_alike_whatever_their_size(layers: tuple[list[torch.Tensor], list[torch.Tensor]]) -> None:
    absolute, signed = feature_matching(*layers), feature_matching_signed(*layers)
    for image in range(3):
        differences = [one[image].numpy() - other[image].numpy() for one, other in zip(*layers, strict=True)]
        assert float(absolute[image]) == pytest.approx(np.mean([np.abs(layer).mean() for layer in differences]))
        assert float(signed[image]) == pytest.approx(np.mean([layer.mean() for layer in differences]))


def test_equal_features_score_0(layers: tuple[list[torch.Tensor], list[torch.Tensor]]) -> None:
    assert (feature_matching(layers[0], layers[0]) == 0).all()
    assert (feature_matching_signed(layers[0], layers[0]) == 0).all()


def test_differences_cancel_only_where_the_sign_is_kept() -> None:
    features, reconstructed = [torch.tensor([[1.0, -1.0]])], [torch.tensor([[0.0, 0.0]])]
    assert float(feature_matching(features, reconstructed)) == 1
    assert float(feature_matching_signed(features, reconstructed)) == 0
    assert float(feature_matching_signed(reconstructed, [torch.ones(1, 2)])) == -1


def test_layers_must_pair(layers: tuple[list[torch.Tensor], list[torch.Tensor]]) -> None:
    for function in (feature_matching, feature_matching_signed):
        with pytest.raises(ValueError, match="shorter"):
            function(layers[0], layers[1][:2])


RANDOM = np.random.default_rng(0)
RESIDUAL, FEATURE = torch.from_numpy(RANDOM.gamma(2, 1, (2, 50)))


@pytest.mark.parametrize("weight", [0.0, 0.1, 0.5, 1.0])
def test_weighs_pixels_and_features(weight: float) -> None:
    expected = [(1 - weight) * r + weight * d for r, d in zip(RESIDUAL.tolist(), FEATURE.tolist(), strict=True)]
    np.testing.assert_allclose(anogan_score(RESIDUAL, FEATURE, weight), expected)


@pytest.mark.parametrize("k", [0.25, 1.0, 3.0])
def test_ranks_as_the_sum_of_the_f_anogan(k: float) -> None:
    published = RESIDUAL + k * FEATURE
    found = anogan_score(RESIDUAL, FEATURE, k / (1 + k))
    np.testing.assert_allclose(found * (1 + k), published)
    assert torch.equal(found.argsort(), published.argsort())
