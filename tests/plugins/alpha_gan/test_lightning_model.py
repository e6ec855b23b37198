from __future__ import annotations

from typing import Any

import pytest
import torch
from anomalib.data import ImageBatch

from anomalib_xray_plugins.alpha_gan import AlphaGan

PLAYERS = ("encoder", "generator", "discriminator", "code_discriminator")


def small(**settings: Any) -> AlphaGan:
    return AlphaGan(image_size=64, width=8, latent_size=16, **settings)


class Turn:
    """An optimiser that notes which players hold gradients when it is its turn, and changes no weight."""

    def __init__(self, model: AlphaGan, turns: list[dict[str, bool]]) -> None:
        self.model = model.model
        self.turns = turns

    def zero_grad(self) -> None:
        self.model.zero_grad()

    def step(self) -> None:
        gradients = {
            player: [parameter.grad is not None for parameter in getattr(self.model, player).parameters()]
            for player in PLAYERS
        }
        # Every weight of a player has a gradient or none has; a player with a mixture is missing here.
        self.turns.append({player: found[0] for player, found in gradients.items() if len(set(found)) == 1})


@pytest.mark.parametrize("kind", ["log", "hinge"])
def test_gradients_reach_only_the_player_whose_turn_it_is(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(adversarial_loss=kind).train()
    turns: list[dict[str, bool]] = []
    monkeypatch.setattr(model, "optimizers", lambda: [Turn(model, turns) for _ in PLAYERS])
    monkeypatch.setattr(model, "manual_backward", lambda loss: loss.backward())
    logged: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(model, "log_losses", lambda losses, _: logged.update(losses))

    model.training_step(ImageBatch(image=torch.rand(4, 1, 64, 64).repeat(1, 3, 1, 1)))

    assert len(turns) == len(PLAYERS)
    for player, gradients in zip(PLAYERS, turns, strict=True):
        assert gradients == {other: other == player for other in PLAYERS}
        assert f"{player}_loss" in logged
    assert model.model.discriminator.minibatch.stored == 4

    model.on_train_epoch_end()
    assert all(parameter.requires_grad for parameter in model.parameters())


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
    assert pictures["samples"].shape == (16, 1, 64, 64)
    for images in pictures.values():
        assert images.min() >= 0
        assert images.max() <= 1


def test_samples_come_from_the_same_codes_each_time() -> None:
    model = small().eval()
    first, second = (model.pictures(torch.rand(1, 1, 64, 64))["samples"] for _ in range(2))
    assert torch.equal(first, second)
