from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from anomalib_xray.components import AdversarialLoss
from anomalib_xray_plugins.alpha_gan.loss import (
    code_discriminator_loss,
    divergence_loss,
    encoder_loss,
    generator_step_loss,
    image_discriminator_loss,
)

RNG = np.random.default_rng(0)
ERROR = torch.tensor(0.7, dtype=torch.float64)
FIRST, SECOND, THIRD = torch.from_numpy(RNG.normal(0, 2, (3, 3)))
WEIGHT = 0.3


def probability(logits: torch.Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 1 / (1 + np.exp(-logits.numpy()))
    return found


def passes_for_real(logits: torch.Tensor) -> float:
    """-log D + log(1 - D), Rosca et al. 2017, equation 10."""
    return float(np.mean(-np.log(probability(logits)) + np.log(1 - probability(logits))))


def tells_apart(real: torch.Tensor, fakes: list[torch.Tensor], kind: str) -> float:
    if kind == "log":
        losses = [-np.log(probability(real)), *(-np.log(1 - probability(fake)) for fake in fakes)]
    elif kind == "wgan-gp":
        losses = [-real.numpy(), *(fake.numpy() for fake in fakes)]
    else:
        losses = [np.maximum(0, 1 - real.numpy()), *(np.maximum(0, 1 + fake.numpy()) for fake in fakes)]
    return float(sum(loss.mean() for loss in losses))


def test_encoder_reconstructs_and_hides_from_the_code_discriminator() -> None:
    expected = WEIGHT * ERROR.item() + passes_for_real(FIRST)
    found = encoder_loss(ERROR, FIRST, WEIGHT)
    assert found.item() == pytest.approx(expected)


def test_divergence_is_that_of_the_distribution_whatever_the_sign_of_its_deviation() -> None:
    mean, deviation = torch.from_numpy(RNG.normal(0, 1, (2, 3, 4)))
    normal = torch.distributions.Normal(0.0, 1.0)
    codes = torch.distributions.Normal(mean, deviation.abs())
    expected = torch.distributions.kl_divergence(codes, normal).sum(1).mean()
    assert divergence_loss(mean, deviation).item() == pytest.approx(expected.item())
    assert divergence_loss(mean, deviation * 0).isfinite()


def test_generator_reconstructs_and_hides_reconstructions_and_samples() -> None:
    expected = WEIGHT * ERROR.item() + passes_for_real(FIRST) + passes_for_real(SECOND)
    found = generator_step_loss(ERROR, FIRST, SECOND, WEIGHT)
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["log", "hinge", "wgan-gp"])
def test_discriminator_tells_images_from_reconstructions_and_samples(kind: AdversarialLoss) -> None:
    found = image_discriminator_loss(FIRST, SECOND, THIRD, kind)
    assert found.item() == pytest.approx(tells_apart(FIRST, [SECOND, THIRD], kind))


@pytest.mark.parametrize("kind", ["log", "hinge", "wgan-gp"])
def test_code_discriminator_tells_normal_codes_from_encoded_ones(kind: AdversarialLoss) -> None:
    found = code_discriminator_loss(FIRST, SECOND, kind)
    assert found.item() == pytest.approx(tells_apart(FIRST, [SECOND], kind))
