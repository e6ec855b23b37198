from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.adversarial import (
    AdversarialLoss,
    NoiseSchedule,
    add_noise,
    check_soft_labels,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    instance_noise_level,
    moving_average,
    passing_loss,
)
from anomalib_xray.networks.attention import SelfAttention
from anomalib_xray.networks.minibatch_discrimination import MinibatchDiscrimination


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


@pytest.mark.parametrize("kinds", [1, 2, 3])
def test_wasserstein_loss_is_its_formula(kinds: int) -> None:
    real, fakes = logits(0), [logits(seed, 4 + seed) for seed in range(1, kinds + 1)]
    expected = -real.numpy().mean() + sum(fake.numpy().mean() for fake in fakes)
    assert float(discriminator_loss(real, fakes, "wgan-gp")) == pytest.approx(expected)


def test_soft_labels_are_drawn_near_1_and_0() -> None:
    real, fake = logits(0), logits(1)
    torch.manual_seed(3)
    of_real, of_fake = 1 - 0.2 * torch.rand_like(real).numpy(), 0.2 * torch.rand_like(fake).numpy()
    expected = sum(
        -(label * np.log(probability(judged)) + (1 - label) * np.log(1 - probability(judged))).mean()
        for judged, label in ((real, of_real), (fake, of_fake))
    )
    torch.manual_seed(3)
    assert float(discriminator_loss(real, [fake], "log", 0.2)) == pytest.approx(expected)
    assert float(discriminator_loss(real, [fake], "log", 0.0)) != pytest.approx(expected)


@pytest.mark.parametrize("kind", ["hinge", "wgan-gp"])
def test_soft_labels_without_log_are_refused(kind: AdversarialLoss) -> None:
    with pytest.raises(XrayError, match=f"soft_labels is 0.1, but the loss '{kind}' has no labels"):
        check_soft_labels(0.1, kind)
    check_soft_labels(0.0, kind)
    check_soft_labels(0.1, "log")


@pytest.mark.parametrize("soft_labels", [-0.1, 0.5, 1.0])
def test_soft_labels_that_could_change_sides_are_refused(soft_labels: float) -> None:
    with pytest.raises(XrayError, match=f"soft_labels is {soft_labels}"):
        check_soft_labels(soft_labels, "log")


def test_passing_is_judged_by_the_discriminators_own_loss() -> None:
    fake = logits(0)
    assert float(passing_loss(fake, "log")) == pytest.approx(-np.log(probability(fake)).mean())
    for kind in ("hinge", "wgan-gp"):
        assert float(passing_loss(fake, kind)) == pytest.approx(-fake.numpy().mean())


@pytest.mark.parametrize("slope", [0.0, 1.0, 3.0])
def test_penalty_of_a_linear_critic_is_the_distance_of_its_slope_from_1(slope: float) -> None:
    weight = torch.randn(1, 4, 4, dtype=torch.float64)
    weight = slope * weight / weight.norm()
    real, fake = torch.randn(2, 5, 1, 4, 4, dtype=torch.float64)
    penalty = gradient_penalty(lambda image: (image * weight).sum((1, 2, 3)), real, fake)
    assert float(penalty) == pytest.approx((slope - 1) ** 2)


def test_penalty_is_taken_between_real_and_fake() -> None:
    """The gradient of ``|x|^2 / 2`` is x, whose length tells where on the line it was taken."""
    real, fake = torch.full((200, 1), 3.0), torch.full((200, 1), 5.0)
    torch.manual_seed(0)
    share = torch.rand(200, 1)
    expected = ((share * 3 + (1 - share) * 5 - 1).square()).mean()
    torch.manual_seed(0)
    penalty = gradient_penalty(lambda x: x.square().sum(1) / 2, real, fake)
    assert float(penalty) == pytest.approx(float(expected), rel=1e-5)


def test_penalty_teaches_a_critic_with_self_attention() -> None:
    critic = nn.Sequential(nn.Conv2d(1, 8, 3), SelfAttention(8), nn.Flatten(), nn.LazyLinear(1), nn.Flatten(0))
    with torch.no_grad():
        critic[1].gamma.fill_(0.5)
    penalty = gradient_penalty(critic, torch.rand(2, 1, 6, 6), torch.rand(2, 1, 6, 6))
    penalty.backward()  # type: ignore[no-untyped-call]
    # a bias of the last layer moves all logits alike, which no gradient in the image tells
    silent = {name for name, weight in critic.named_parameters() if weight.grad is None or not weight.grad.any()}
    assert "1.query.weight" not in silent
    assert "0.weight" not in silent
    assert "3.bias" in silent


@pytest.mark.parametrize(
    ("layer", "coupled"),
    [
        (nn.BatchNorm1d(4), True),
        (nn.BatchNorm1d(4).eval(), False),
        (MinibatchDiscrimination(4, kernels=4), True),
        (nn.LayerNorm(4), False),
    ],
)
def test_penalty_refuses_a_critic_that_mixes_the_images_of_a_batch(layer: nn.Module, coupled: bool) -> None:
    critic = nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 1), nn.Flatten(0))
    real, fake = torch.rand(2, 3, 4)
    if coupled:
        with pytest.raises(XrayError, match=type(layer).__name__):
            gradient_penalty(critic, real, fake)
    else:
        assert gradient_penalty(critic, real, fake).isfinite()


def test_generator_loss_is_the_ratio() -> None:
    fake = logits(0)
    expected = (-np.log(probability(fake)) + np.log(1 - probability(fake))).mean()
    assert float(generator_loss(fake)) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["log", "hinge", "wgan-gp"])
def test_losses_pull_the_players_apart(kind: AdversarialLoss) -> None:
    real, fake = logits(0).requires_grad_(), logits(1).requires_grad_()
    discriminator_loss(real, [fake], kind).backward()
    assert (real.grad <= 0).all()
    assert (fake.grad >= 0).all()
    fooled = logits(1).requires_grad_()
    generator_loss(fooled).backward()
    assert (fooled.grad < 0).all()


@pytest.mark.parametrize("kind", ["log", "hinge", "wgan-gp"])
def test_extreme_logits_stay_finite(kind: AdversarialLoss) -> None:
    extreme = torch.tensor([-1e4, 1e4])
    assert torch.isfinite(discriminator_loss(extreme, [extreme], kind))
    assert torch.isfinite(generator_loss(extreme))


@pytest.mark.parametrize(("epoch", "expected"), [(0, 2.49), (1, 0.01 * 497 / 3), (99, 0.01 * 399 / 101), (498, 0.0)])
def test_published_schedule_is_its_formula(epoch: int, expected: float) -> None:
    assert instance_noise_level(0.01, epoch, 500, "published") == pytest.approx(expected)


@pytest.mark.parametrize(("epoch", "expected"), [(0, 0.2), (5, 0.1), (9, 0.02), (10, 0.0), (12, 0.0)])
def test_linear_schedule_falls_along_a_line(epoch: int, expected: float) -> None:
    assert instance_noise_level(0.2, epoch, 10) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["linear", "published"])
@pytest.mark.parametrize("epochs", [1, 4, 50])
def test_noise_is_never_negative_and_fades(schedule: NoiseSchedule, epochs: int) -> None:
    levels = [instance_noise_level(0.3, epoch, epochs, schedule) for epoch in range(epochs)]
    assert min(levels) >= 0
    assert levels[-1] <= levels[0]
    assert [instance_noise_level(0, epoch, epochs, schedule) for epoch in range(epochs)] == [0] * epochs


def test_noise_has_its_deviation() -> None:
    torch.manual_seed(0)
    image = torch.full((4, 1, 64, 64), 0.5)
    difference = add_noise(image, 0.3) - image
    assert difference.mean().item() == pytest.approx(0, abs=0.01)
    assert difference.std().item() == pytest.approx(0.3, rel=0.02)


def test_without_noise_the_image_is_itself_and_nothing_is_drawn() -> None:
    image = torch.rand(2, 1, 8, 8)
    before = torch.get_rng_state()
    assert add_noise(image, 0.0) is image
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_follow_the_formula_and_buffers_are_the_networks() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = moving_average(network, 0.75)
    assert average is not None
    expected = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    for _ in range(3):
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(torch.randn_like(weight))
        network(torch.randn(5, 3))
        average.update_parameters(network)
        # torch starts from a copy at the first update
        expected = {
            name: weight.detach().clone() if average.n_averaged == 1 else 0.75 * expected[name] + 0.25 * weight.detach()
            for name, weight in network.named_parameters()
        }
    for name, weight in average.module.named_parameters():
        torch.testing.assert_close(weight, expected[name])
        assert not weight.requires_grad
    for name, buffer in average.module.named_buffers():
        assert torch.equal(buffer, network.get_buffer(name))
    assert not average.module.training


def test_no_decay_is_no_average() -> None:
    assert moving_average(nn.Linear(1, 1), 0) is None


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_impossible_decays_are_refused(decay: float) -> None:
    with pytest.raises(XrayError, match="ema_decay"):
        moving_average(nn.Linear(1, 1), decay)
