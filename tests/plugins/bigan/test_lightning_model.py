from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from anomalib.data import ImageBatch
from torch import Tensor, nn, optim

from anomalib_xray.errors import XrayError
from anomalib_xray_plugins.bigan import Bigan

PLAYERS = ("generator", "discriminator")
NETWORKS = ("generator", "encoder", "discriminator")


def small(**settings: Any) -> Bigan:
    return Bigan(**{"image_size": 64, "width": 8, "latent_size": 16, **settings})


def batch(count: int = 4) -> ImageBatch:
    generator = torch.Generator().manual_seed(0)
    return ImageBatch(image=torch.rand(count, 1, 64, 64, generator=generator).repeat(1, 3, 1, 1))


class Turn:
    """An optimiser that notes which networks hold gradients when it steps, and steps or leaves the weights."""

    def __init__(self, model: Bigan, turns: list[dict[str, bool]], optimizer: optim.Optimizer | None = None) -> None:
        self.model, self.turns, self.optimizer = model.model, turns, optimizer

    def zero_grad(self) -> None:
        self.model.zero_grad()

    def step(self) -> None:
        gradients = {
            name: [weight.grad is not None for weight in getattr(self.model, name).parameters()] for name in NETWORKS
        }
        # Every weight of a network has a gradient or none has; a network with a mixture is missing here.
        self.turns.append({name: found[0] for name, found in gradients.items() if len(set(found)) == 1})
        if self.optimizer is not None:
            self.optimizer.step()


def one_step(
    model: Bigan, monkeypatch: pytest.MonkeyPatch, optimizers: list[optim.Optimizer] | None = None
) -> tuple[list[dict[str, bool]], dict[str, Tensor]]:
    """Takes a training step without a trainer; returns who had gradients in each turn, and the losses."""
    turns: list[dict[str, bool]] = []
    logged: dict[str, Tensor] = {}
    steps = [Turn(model, turns, optimizer) for optimizer in optimizers or [None, None]]
    monkeypatch.setattr(model, "optimizers", lambda: steps)
    monkeypatch.setattr(model, "lr_schedulers", lambda: None)
    monkeypatch.setattr(model, "manual_backward", lambda loss: loss.backward())
    monkeypatch.setattr(model, "log_losses", lambda losses, _: logged.update(losses))
    model.train().training_step(batch())
    return turns, logged


@pytest.mark.parametrize(
    "settings",
    [
        {"adversarial_loss": "log", "soft_labels": 0.1},
        {"adversarial_loss": "hinge", "reconstruction_weight": 0.0},
        {"adversarial_loss": "wgan-gp"},
        {"adversarial_loss": "wgan-gp", "attention": False, "spectral_norm": False},
        {"attention_pooling": 1, "ema_decay": 0.9},
    ],
    ids=str,
)
def test_gradients_reach_only_the_player_whose_turn_it_is(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(**settings)
    turns, logged = one_step(model, monkeypatch)
    assert turns == [
        {"generator": True, "encoder": True, "discriminator": False},
        {"generator": False, "encoder": False, "discriminator": True},
    ]
    assert {f"{network}_loss" for network in NETWORKS} < logged.keys()
    assert all(loss.isfinite() for loss in logged.values())
    assert ("reconstruction_l1" in logged) == (settings.get("reconstruction_weight") != 0)


def test_hands_weights_back_as_trainable(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    one_step(model, monkeypatch)
    model.on_train_epoch_end()
    assert all(weight.requires_grad for weight in model.parameters())


def test_each_player_has_its_optimizer() -> None:
    model = small(learning_rate=0.1, discriminator_learning_rate=0.2, betas=(0.4, 0.9))
    made, judged = model.configure_optimizers()
    assert (made.param_groups[0]["lr"], judged.param_groups[0]["lr"]) == (0.1, 0.2)
    assert made.param_groups[0]["betas"] == judged.param_groups[0]["betas"] == (0.4, 0.9)
    networks = model.model
    expected = [[*networks.generator.parameters(), *networks.encoder.parameters()], networks.discriminator.parameters()]
    for optimizer, weights in zip((made, judged), expected, strict=True):
        assert {id(weight) for weight in optimizer.param_groups[0]["params"]} == {id(weight) for weight in weights}


def test_averages_follow_their_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(ema_decay=0.75, learning_rate=0.01)
    pairs = [(model.model.generator, model.model.average), (model.model.encoder, model.model.encoder_average)]
    optimizers = model.configure_optimizers()
    one_step(model, monkeypatch, optimizers)
    before = [[weight.clone() for weight in average.parameters()] for _, average in pairs]
    for (network, _), weights in zip(pairs, before, strict=True):
        # after the first step the average is the network itself
        assert all(torch.equal(one, other) for one, other in zip(network.parameters(), weights, strict=True))
    one_step(model, monkeypatch, optimizers)
    for (network, average), weights in zip(pairs, before, strict=True):
        for now, old, found in zip(network.parameters(), weights, average.parameters(), strict=True):
            torch.testing.assert_close(found, 0.75 * old + 0.25 * now)
        assert any(not torch.equal(one, other) for one, other in zip(network.parameters(), weights, strict=True))


def test_noise_reaches_the_discriminators_images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    encoded: list[Tensor] = []
    model = small(instance_noise=0.5, reconstruction_weight=0.0)
    monkeypatch.setattr(model, "_trainer", SimpleNamespace(max_epochs=10, current_epoch=0))
    model.model.discriminator.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    model.model.encoder.register_forward_pre_hook(lambda _, given: encoded.append(given[0].detach()))
    one_step(model, monkeypatch)
    image = 2 * model.grey(batch()) - 1
    assert [torch.equal(given, image) for given in encoded] == [True]
    real, generated, real_again, generated_again = seen
    for shown in (real, real_again):
        assert (shown - image).std().item() == pytest.approx(0.5, rel=0.05)
    assert not torch.equal(real, real_again)
    for shown in (generated, generated_again):  # the untrained generator's images are flat
        assert shown.std().item() == pytest.approx(0.5, rel=0.3)


@pytest.mark.parametrize(("epoch", "expected"), [(0, 0.4), (5, 0.2), (9, 0.04)])
def test_noise_fades_over_the_epochs(epoch: int, expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(instance_noise=0.4)
    monkeypatch.setattr(model, "_trainer", SimpleNamespace(max_epochs=10, current_epoch=epoch))
    assert model._noise() == pytest.approx(expected)


def test_noise_without_an_end_of_training_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = SimpleNamespace(max_epochs=-1, current_epoch=0)
    model, silent = small(instance_noise=0.4), small(instance_noise=0.0)
    for one in (model, silent):
        monkeypatch.setattr(one, "_trainer", trainer)
    with pytest.raises(XrayError, match=r"set trainer\.max_epochs"):
        model._noise()
    assert silent._noise() == 0


def test_penalty_is_that_of_image_and_code_together(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(adversarial_loss="wgan-gp", gradient_penalty=3.0)
    pixels, codes = torch.randn(1, 64, 64), torch.randn(16)

    class Linear(nn.Module):
        def forward(self, image: Tensor, code: Tensor) -> Tensor:
            return (image * pixels).sum((1, 2, 3)) + code @ codes

    monkeypatch.setattr(model.model, "discriminator", Linear())
    slope = (pixels.square().sum() + codes.square().sum()).sqrt()
    images, drawn = torch.rand(2, 3, 1, 64, 64), torch.rand(2, 3, 16)
    penalty = model._pair_penalty(images[0], drawn[0], images[1], drawn[1])
    torch.testing.assert_close(penalty, 3 * (slope - 1).square())
    assert small()._pair_penalty(images[0], drawn[0], images[1], drawn[1]) == 0


def test_pictures_show_reconstructions_samples_and_attention() -> None:
    model = small().eval()
    pictures = model.pictures(torch.rand(2, 1, 64, 64))
    assert pictures["reconstructions"].shape == (4, 1, 64, 64)
    assert pictures["samples"].shape[1:] == (1, 64, 64)
    attention = {name: images for name, images in pictures.items() if name.startswith("attention_")}
    assert set(attention) == {
        f"attention_{layer}"
        for layer in (
            "encoder.trunk.levels.2.2",
            "encoder.trunk.levels.3.2",
            "generator.layers.9",
            "generator.layers.13",
            "discriminator.trunk.levels.2.2",
            "discriminator.trunk.levels.3.2",
        )
    }
    for images in pictures.values():
        assert images.min() >= 0
        assert images.max() <= 1
    for images in attention.values():
        assert images.shape == (6, 1, 64, 64)


@pytest.mark.parametrize(
    "settings",
    [{"soft_labels": 0.1}, {"instance_noise": -0.1}, {"ema_decay": 1.0}, {"score": "code_discriminator"}],
    ids=str,
)
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(XrayError, match=str(next(iter(settings.values())))):
        small(**settings)
