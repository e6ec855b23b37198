from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from anomalib_xray.components import discriminator_loss, generator_loss


def logits(seed: int, count: int = 7) -> Tensor:
    return 3 * torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def probability(logit: Tensor) -> np.ndarray:
    return 1 / (1 + np.exp(-logit.numpy()))


@pytest.mark.parametrize("kinds", [1, 2, 3])
def test_log_loss_is_its_formula(kinds: int) -> None:
    real, fakes = logits(0), [logits(seed, 4 + seed) for seed in range(1, kinds + 1)]
    expected = -np.log(probability(real)).mean() - sum(np.log(1 - probability(fake)).mean() for fake in fakes)
    assert float(discriminator_loss(real, fakes, "log")) == pytest.approx(expected)


@pytest.mark.parametrize("kinds", [1, 2, 3])
def test_hinge_loss_is_its_formula(kinds: int) -> None:
    real, fakes = logits(0), [logits(seed, 4 + seed) for seed in range(1, kinds + 1)]
    expected = np.maximum(0, 1 - real.numpy()).mean() + sum(np.maximum(0, 1 + fake.numpy()).mean() for fake in fakes)
    assert float(discriminator_loss(real, fakes, "hinge")) == pytest.approx(expected)


def test_generator_loss_is_the_ratio() -> None:
    fake = logits(0)
    expected = (-np.log(probability(fake)) + np.log(1 - probability(fake))).mean()
    assert float(generator_loss(fake)) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["log", "hinge"])
def test_losses_pull_the_players_apart(kind: str) -> None:
    real, fake = logits(0).requires_grad_(), logits(1).requires_grad_()
    discriminator_loss(real, [fake], kind).backward()
    assert (real.grad <= 0).all()
    assert (fake.grad >= 0).all()
    fooled = logits(1).requires_grad_()
    generator_loss(fooled).backward()
    assert (fooled.grad < 0).all()


@pytest.mark.parametrize("kind", ["log", "hinge"])
def test_extreme_logits_stay_finite(kind: str) -> None:
    extreme = torch.tensor([-1e4, 1e4])
    assert torch.isfinite(discriminator_loss(extreme, [extreme], kind))
    assert torch.isfinite(generator_loss(extreme))
