from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from anomalib_xray.components import AdversarialLoss
from anomalib_xray_plugins.bigan.loss import encoder_loss, pair_discriminator_loss, pair_generator_loss

RNG = np.random.default_rng(0)
ENCODED, GENERATED = torch.from_numpy(RNG.normal(0, 2, (2, 5)))


def probability(logits: torch.Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 1 / (1 + np.exp(-logits.numpy()))
    return found


def test_log_losses_are_their_formulas() -> None:
    encoded, generated = probability(ENCODED), probability(GENERATED)
    discriminator = -np.log(encoded).mean() - np.log(1 - generated).mean()
    assert float(pair_discriminator_loss(ENCODED, GENERATED, "log")) == pytest.approx(discriminator)
    assert float(pair_generator_loss(GENERATED, "log")) == pytest.approx(-np.log(generated).mean())
    assert float(encoder_loss(ENCODED, "log")) == pytest.approx(-np.log(1 - encoded).mean())


def test_hinge_losses_are_their_formulas() -> None:
    encoded, generated = ENCODED.numpy(), GENERATED.numpy()
    discriminator = np.maximum(0, 1 - encoded).mean() + np.maximum(0, 1 + generated).mean()
    assert float(pair_discriminator_loss(ENCODED, GENERATED, "hinge")) == pytest.approx(discriminator)


def test_wasserstein_losses_are_their_formulas() -> None:
    discriminator = GENERATED.numpy().mean() - ENCODED.numpy().mean()
    assert float(pair_discriminator_loss(ENCODED, GENERATED, "wgan-gp")) == pytest.approx(discriminator)


@pytest.mark.parametrize("kind", ["hinge", "wgan-gp"])
def test_generator_and_encoder_move_logits_in_opposite_directions(kind: AdversarialLoss) -> None:
    assert float(pair_generator_loss(GENERATED, kind)) == pytest.approx(-GENERATED.numpy().mean())
    assert float(encoder_loss(ENCODED, kind)) == pytest.approx(ENCODED.numpy().mean())
