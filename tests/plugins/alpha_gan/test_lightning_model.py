from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from torch import optim

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.latent import Latent
from anomalib_xray_plugins.alpha_gan import AlphaGan
from anomalib_xray_plugins.alpha_gan.lightning_model import divergence_loss

PLAYERS = ("encoder", "generator", "discriminator", "code_discriminator")


def small(**settings: Any) -> AlphaGan:
    return AlphaGan(image_size=64, width=8, latent_size=16, **settings)


class Turn:
    """An optimiser that notes which players hold gradients when it steps, and steps or leaves the weights."""

    def __init__(self, model: AlphaGan, turns: list[dict[str, bool]], optimizer: optim.Optimizer | None = None) -> None:
        self.model, self.turns, self.optimizer = model.model, turns, optimizer

    def zero_grad(self) -> None:
        self.model.zero_grad()

    def step(self) -> None:
        gradients = {
            player: [parameter.grad is not None for parameter in getattr(self.model, player).parameters()]
            for player in PLAYERS
        }
        # Every weight of a player has a gradient or none has; a player with a mixture is missing here.
        self.turns.append({player: found[0] for player, found in gradients.items() if len(set(found)) == 1})
        if self.optimizer is not None:
            self.optimizer.step()


def batch(count: int = 4) -> ImageBatch:
    generator = torch.Generator().manual_seed(0)
    return ImageBatch(image=torch.rand(count, 1, 64, 64, generator=generator).repeat(1, 3, 1, 1))


def one_step(
    model: AlphaGan, monkeypatch: pytest.MonkeyPatch, optimizers: list[optim.Optimizer] | None = None
) -> tuple[list[dict[str, bool]], dict[str, torch.Tensor]]:
    """Takes a training step without a trainer; returns who had gradients in each turn, and the losses."""
    turns: list[dict[str, bool]] = []
    logged: dict[str, torch.Tensor] = {}
    steps = [Turn(model, turns, optimizer) for optimizer in optimizers or [None] * len(PLAYERS)]
    monkeypatch.setattr(model, "optimizers", lambda: steps)
    monkeypatch.setattr(model, "lr_schedulers", lambda: None)
    monkeypatch.setattr(model, "manual_backward", lambda loss: loss.backward())
    monkeypatch.setattr(model, "log_losses", lambda losses, _: logged.update(losses))
    model.train().training_step(batch())
    return turns, logged


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"adversarial_loss": "log"},
        {"adversarial_loss": "log", "soft_labels": 0.1},
        {"adversarial_loss": "wgan-gp", "attention": True},
        {"adversarial_loss": "wgan-gp", "spectral_norm": False, "minibatch_discrimination": False},
        {"attention": False},
        {"attention_pooling": 1, "latent": "tanh"},
        {"spectral_norm": False},
        {"minibatch_discrimination": False},
        {"ema_decay": 0.9},
        {"extra_scores": ["ssim"]},
    ],
    ids=str,
)
def test_gradients_reach_only_the_player_whose_turn_it_is(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(**settings)
    turns, logged = one_step(model, monkeypatch)
    assert turns == [{other: other == player for other in PLAYERS} for player in PLAYERS]
    assert {f"{player}_loss" for player in PLAYERS} < logged.keys()
    assert all(loss.isfinite() for loss in logged.values())
    minibatch = model.model.discriminator.minibatch
    off = settings.get("adversarial_loss") == "wgan-gp" or not settings.get("minibatch_discrimination", True)
    assert (minibatch is None) == off
    assert minibatch is None or minibatch.stored == 4

    model.on_train_epoch_end()
    assert all(parameter.requires_grad for parameter in model.model.generator.parameters())


@pytest.mark.parametrize(
    ("settings", "kind", "present"),
    [
        ({}, "SelfAttention", True),
        ({"attention": False}, "SelfAttention", False),
        ({}, "SpectralNorm", True),
        ({"spectral_norm": False}, "SpectralNorm", True),
        ({"spectral_norm": False, "code_spectral_norm": False}, "SpectralNorm", False),
        ({}, "MinibatchDiscrimination", True),
        ({"minibatch_discrimination": False}, "MinibatchDiscrimination", False),
        ({}, "AveragedModel", False),
        ({"ema_decay": 0.9}, "AveragedModel", True),
    ],
    ids=str,
)
def test_options_add_and_remove_their_parts(settings: dict[str, Any], kind: str, present: bool) -> None:
    assert (kind in {type(part).__name__ for part in small(**settings).model.modules()}) == present


class Gradients(optim.SGD):
    """Notes the gradients with which it is asked to step, and leaves the weights."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # the parent's form is overloaded
        del closure
        self.found = [weight.grad.clone() for group in self.param_groups for weight in group["params"]]


def test_encoder_and_generator_follow_their_own_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(spectral_norm=False, code_spectral_norm=False, minibatch_discrimination=False)
    network, image = model.model.train(), 2 * batch().image.mean(1, keepdim=True) - 1
    optimizers = [Gradients(getattr(network, player).parameters(), lr=1.0) for player in PLAYERS]
    torch.manual_seed(3)
    one_step(model, monkeypatch, list(optimizers))
    model.on_train_epoch_end()

    torch.manual_seed(3)
    noise = torch.randn(4, 16)
    mean, deviation = network.encoder(image)
    code = mean + deviation * torch.randn(4, 16)
    generated = network.generator(torch.cat([code, noise]))
    error = 500 * (generated[:4] - image).square().mean()
    of_encoder = error - network.code_discriminator(code).mean()
    of_generator = error - network.discriminator(generated[:4]).mean() - network.discriminator(generated[4:]).mean()
    for optimizer, loss, player in zip(optimizers, (of_encoder, of_generator), PLAYERS, strict=False):
        expected = torch.autograd.grad(loss, list(getattr(network, player).parameters()), retain_graph=True)
        for gradient, wanted in zip(optimizer.found, expected, strict=True):
            torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("latent", ["linear", "tanh"])
def test_divergence_is_weighted_and_added_to_the_encoders_loss(latent: Latent, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []
    for weight in (0.0, 1.0, 10.0):
        torch.manual_seed(3)
        model = small(kl_weight=weight, latent=latent)
        mean, deviation = model.model.train().encoder(2 * batch().image.mean(1, keepdim=True) - 1)
        _, logged = one_step(model, monkeypatch)
        losses.append({name: float(value.detach()) for name, value in logged.items()})
    variance = deviation.double().square().clamp(min=np.exp(-10))
    expected = 0.5 * (mean.double().square() + variance - 1 - variance.log()).sum(1).mean()
    none, one, ten = (loss.pop("encoder_loss") for loss in losses)
    assert one - none == pytest.approx(expected.item(), rel=1e-2)
    assert ten - none == pytest.approx(10 * expected.item(), rel=1e-2)
    assert losses[0] == losses[1]  # of the other players


def test_penalty_is_weighted_and_added_to_both_discriminators(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []
    for weight in (0.0, 1.0, 10.0):
        _, logged = one_step(small(adversarial_loss="wgan-gp", gradient_penalty=weight), monkeypatch)
        losses.append([float(logged[f"{player}_loss"].detach()) for player in ("discriminator", "code_discriminator")])
    for none, one, ten in zip(*losses, strict=True):
        assert one > none
        assert ten - none == pytest.approx(10 * (one - none), rel=1e-3)


def test_average_follows_its_formula_and_is_what_evaluation_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(ema_decay=0.75, learning_rate=0.01)
    network, average = model.model.generator, model.model.average
    assert average is not None
    optimizers = model.configure_optimizers()
    one_step(model, monkeypatch, optimizers)
    # After the first step the average is the network itself.
    before = [weight.clone() for weight in average.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(network.parameters(), before, strict=True))
    one_step(model, monkeypatch, optimizers)
    for now, old, found in zip(network.parameters(), before, average.parameters(), strict=True):
        torch.testing.assert_close(found, 0.75 * old + 0.25 * now)
    assert any(not torch.equal(one, other) for one, other in zip(network.parameters(), before, strict=True))

    model.eval()
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        expected = (average.module(model.model.encoder(2 * image - 1)[0]) + 1) / 2
        torch.testing.assert_close(model.model.reconstruct(image), expected)
        assert not torch.allclose(expected, (network(model.model.encoder(2 * image - 1)[0]) + 1) / 2)
        mse = (image - expected).square().mean((1, 2, 3))
        torch.testing.assert_close(model.model(image.repeat(1, 3, 1, 1)).scores["mse"], mse)
        torch.testing.assert_close(model.samples(), (average.module(model.fixed_codes) + 1) / 2)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"soft_labels": 0.1}, "soft_labels is 0.1, but the loss 'hinge' has no labels"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"extra_scores": ["kld"]}, "extra_scores names kld"),
        ({"score": "kld"}, "score is 'kld'"),
        ({"kl_weight": -0.1}, "kl_weight is -0.1"),
        (
            {"score": "discriminators_mean_probability", "adversarial_loss": "wgan-gp"},
            "score is 'discriminators_mean_probability', but AlphaGan computes",
        ),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(XrayError, match=sentence):
        small(**settings)


def test_schedule_lowers_every_players_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(schedule="linear")
    monkeypatch.setattr(model, "_trainer", SimpleNamespace(max_epochs=10))
    made = model.configure_optimizers()
    assert len(made) == len(PLAYERS)
    for one, rate in zip(made, (1e-3, 1e-3, 2e-4, 2e-4), strict=True):
        optimizer, scheduler = one["optimizer"], one["lr_scheduler"]["scheduler"]
        for _ in range(10):
            optimizer.step()
            scheduler.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate / 100)


def test_each_player_has_its_optimizer() -> None:
    model = small(
        learning_rate=0.1, discriminator_learning_rate=0.2, code_discriminator_learning_rate=0.3, betas=(0.4, 0.9)
    )
    optimizers = model.configure_optimizers()
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == [0.1, 0.1, 0.2, 0.3]
    for player, optimizer in zip(PLAYERS, optimizers, strict=True):
        assert optimizer.param_groups[0]["betas"] == (0.4, 0.9)
        expected = {id(parameter) for parameter in getattr(model.model, player).parameters()}
        assert {id(parameter) for parameter in optimizer.param_groups[0]["params"]} == expected
    assert sum(len(optimizer.param_groups[0]["params"]) for optimizer in optimizers) == len(list(model.parameters()))


def test_pictures_show_reconstructions_and_samples() -> None:
    model = small().eval()
    pictures = model.pictures(torch.rand(2, 1, 64, 64))
    assert pictures["reconstructions"].shape == (4, 1, 64, 64)
    assert pictures["samples"].shape[1:] == (1, 64, 64)
    for images in pictures.values():
        assert images.min() >= 0
        assert images.max() <= 1


def test_samples_come_from_the_same_codes_each_time() -> None:
    model = small().eval()
    first, second = (model.pictures(torch.rand(1, 1, 64, 64))["samples"] for _ in range(2))
    assert torch.equal(first, second)


def test_divergence_is_that_of_the_distribution_whatever_the_sign_of_its_deviation() -> None:
    mean, deviation = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    normal = torch.distributions.Normal(0.0, 1.0)
    codes = torch.distributions.Normal(mean, deviation.abs())
    expected = torch.distributions.kl_divergence(codes, normal).sum(1).mean()
    assert divergence_loss(mean, deviation).item() == pytest.approx(expected.item())
    assert divergence_loss(mean, deviation * 0).isfinite()
