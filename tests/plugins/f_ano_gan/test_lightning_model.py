from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import optim

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.adversarial import AdversarialLoss
from anomalib_xray.testing.base import Training, assert_same_weights, fit, normal_batch
from anomalib_xray_plugins.f_ano_gan import FAnoGan
from anomalib_xray_plugins.f_ano_gan.lightning_model import encoder_loss

PLAYERS = ("discriminator", "generator", "encoder")
IMAGES = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0)).repeat(1, 3, 1, 1)
BATCHES = [normal_batch(IMAGES[:2]), normal_batch(IMAGES[2:]), normal_batch(IMAGES[1:])]


def small(**settings: Any) -> FAnoGan:
    return FAnoGan(
        **{"image_size": 64, "width": 2, "latent_size": 8, "critic_steps": 1, "visualizer": False, **settings}
    )


class Changes(Callback):
    """Notes after each batch whose weights have changed, and after each epoch whether the monitor looked at it."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[int, set[str]]] = []
        self.rates: list[list[float]] = []
        self.monitored: list[bool] = []

    @staticmethod
    def _state(module: LightningModule) -> dict[str, list[torch.Tensor]]:
        model = module.model
        values = {player: getattr(model, player).parameters() for player in PLAYERS}
        values["statistics"] = model.generator.buffers()
        if model.average is not None:
            values["average"] = model.average.parameters()
        return {name: [value.detach().clone() for value in found] for name, found in values.items()}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.before = self._state(pl_module)
        self.rates.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        changed = {
            player
            for player, values in self._state(pl_module).items()
            if any(not torch.equal(*pair) for pair in zip(values, self.before[player], strict=True))
        }
        self.batches.append((trainer.current_epoch, changed))

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.current_epoch > 0:
            self.on_train_end(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        self.monitored.append(trainer.callback_metrics.pop("train_discriminator_margin", None) is not None)


def train(model: FAnoGan, folder: Path, epochs: int, resume: Path | None = None) -> tuple[Training, Changes]:
    changes = Changes()
    return fit(model, BATCHES, folder, epochs=epochs, callbacks=(changes,), resume=resume), changes


@pytest.mark.parametrize("kind", ["wgan-gp", "log", "hinge"])
def test_each_phase_changes_its_players_alone(kind: AdversarialLoss, tmp_path: Path) -> None:
    training, changes = train(small(adversarial_loss=kind, encoder_share=0.5, ema_decay=0.9), tmp_path, 4)
    gan = {"discriminator", "generator", "statistics", "average"}
    assert changes.batches == [(epoch, gan if epoch < 2 else {"encoder"}) for epoch in range(4) for _ in BATCHES]
    assert {f"train_{player}_loss" for player in PLAYERS} <= training.metrics.keys()
    assert all(
        parameter.requires_grad
        for player in PLAYERS
        for parameter in getattr(training.model.model, player).parameters()
    )


@pytest.mark.parametrize(("epochs", "share"), [(1, 0.4), (2, 0.0)])
def test_epochs_that_are_not_divided_train_everybody(epochs: int, share: float, tmp_path: Path) -> None:
    _, changes = train(small(encoder_share=share), tmp_path, epochs)
    assert [players for _, players in changes.batches] == [{*PLAYERS, "statistics"}] * (len(BATCHES) * epochs)


def test_the_generator_has_one_step_for_several_of_the_critic(tmp_path: Path) -> None:
    """Counted over epochs: 3 batches an epoch and every second step; the average moves with the generator only."""
    _, changes = train(small(critic_steps=2, encoder_share=0.25, ema_decay=0.9), tmp_path, 4)
    players = [players for epoch, players in changes.batches if epoch < 3]
    assert all("discriminator" in changed for changed in players)
    for player in ("generator", "average"):
        assert [player in changed for changed in players] == [step % 2 == 0 for step in range(9)]


def test_a_training_that_goes_on_does_what_it_would_have_done(tmp_path: Path) -> None:
    """Interrupted in the middle of each phase: weights, phases and the critic's steps are those of a whole training."""
    settings: dict[str, Any] = {"critic_steps": 2, "encoder_share": 0.5, "schedule": "cosine"}
    whole, expected = train(small(**settings), tmp_path / "whole", 4)
    for stop in (1, 3):
        interrupted = fit(small(**settings), BATCHES, tmp_path / f"{stop}", epochs=4, callbacks=(StopAfter(stop),))
        resumed, changes = train(small(**settings), tmp_path / f"{stop}_resumed", 4, interrupted.checkpoint)
        assert changes.batches == expected.batches[stop * len(BATCHES) :]
        assert_same_weights(resumed.model, whole.model)


class StopAfter(Callback):
    """Stops a training after some epochs that was to have more."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.current_epoch + 1 == self.epochs


def test_the_monitor_looks_at_the_epochs_in_which_the_players_meet(tmp_path: Path) -> None:
    _, changes = train(small(encoder_share=0.5), tmp_path, 4)
    assert changes.monitored == [True, True, False, False]


def test_rates_fall_over_the_epochs_of_each_player(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"learning_rate": 1.0, "discriminator_learning_rate": 2.0, "encoder_learning_rate": 4.0}
    _, changes = train(small(schedule="linear", encoder_share=0.5, **settings), tmp_path, 4)
    full, half, least = 1.0, 1 - 0.99 / 2, 0.01  # before, between and after two epochs
    critic, generator, encoder = ([rates[player] for rates in changes.rates[:: len(BATCHES)]] for player in range(3))
    assert critic == pytest.approx([2 * full, 2 * half, 2 * least, 2 * least])
    assert generator == pytest.approx([full, half, least, least])
    assert encoder == pytest.approx([4 * full, 4 * full, 4 * full, 4 * half])


def test_the_encoder_inverts_the_generator(tmp_path: Path) -> None:
    """Its loss falls in its phase: at a fixed generator, on one batch."""
    losses: list[float] = []

    class Losses(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if not pl_module.plays():
                losses.append(float(trainer.callback_metrics["train_encoder_loss"]))

    model = small(encoder_share=0.8, encoder_learning_rate=2e-3, learning_rate=1e-2)
    fit(model, [BATCHES[0]], tmp_path, epochs=30, callbacks=(Losses(),))
    assert len(losses) == 24
    assert losses[-1] < losses[0]


def test_each_player_has_its_optimizer() -> None:
    model = small(learning_rate=0.1, discriminator_learning_rate=0.2, encoder_learning_rate=0.3)
    optimizers = model.configure_optimizers()
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == [0.2, 0.1, 0.3]
    assert all(optimizer.param_groups[0]["betas"] == (0.0, 0.9) for optimizer in optimizers)
    for player, optimizer in zip(PLAYERS, optimizers, strict=True):
        expected = {id(parameter) for parameter in getattr(model.model, player).parameters()}
        assert {id(parameter) for parameter in optimizer.param_groups[0]["params"]} == expected
    published = small(encoder_optimizer="rmsprop", encoder_learning_rate=5e-5).configure_optimizers()
    assert [type(optimizer) for optimizer in published] == [optim.Adam, optim.Adam, optim.RMSprop]
    assert published[2].param_groups[0]["lr"] == 5e-5


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"encoder_share": 1.0}, "encoder_share is 1.0"),
        ({"critic_steps": 0}, "critic_steps is 0"),
        ({"feature_weight": -1.0}, "feature_weight is -1.0"),
    ],
)
def test_refuses_settings_that_make_no_sense(setting: dict[str, Any], sentence: str) -> None:
    with pytest.raises(XrayError, match=sentence):
        small(**setting)


def test_pictures_show_reconstructions_and_samples() -> None:
    pictures = small().eval().pictures(torch.rand(2, 1, 64, 64))
    assert pictures["reconstructions"].shape == (4, 1, 64, 64)
    assert pictures["samples"].shape == (32, 1, 64, 64)
    for images in pictures.values():
        assert images.min() >= 0
        assert images.max() <= 1


def test_trains_on_a_batch_without_foreground(tmp_path: Path) -> None:
    black = ImageBatch(image=torch.zeros(2, 3, 64, 64), gt_label=torch.zeros(2, dtype=torch.long))
    training = fit(small(), [black], tmp_path)
    assert all(parameter.isfinite().all() for parameter in training.model.parameters())


RNG = np.random.default_rng(0)
IMAGE, RECONSTRUCTION = torch.from_numpy(RNG.uniform(-1, 1, (2, 3, 1, 4, 4)))
FEATURES, RECONSTRUCTED = torch.from_numpy(RNG.normal(0, 2, (2, 3, 7)))
MASK = torch.from_numpy(RNG.random((3, 1, 4, 4)) < 0.5).double()


def loss(mask: torch.Tensor, weight: float) -> float:
    return float(encoder_loss(IMAGE, RECONSTRUCTION, mask, FEATURES, RECONSTRUCTED, weight))


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_on_raw_images_it_is_the_published_loss(weight: float) -> None:
    pixels = np.mean((IMAGE.numpy() - RECONSTRUCTION.numpy()) ** 2)
    features = np.mean((FEATURES.numpy() - RECONSTRUCTED.numpy()) ** 2)
    assert loss(torch.ones_like(MASK), weight) == pytest.approx(pixels + weight * features)


def test_pixels_of_the_background_do_not_count() -> None:
    inside = MASK.numpy() > 0
    pixels = np.mean((IMAGE.numpy() - RECONSTRUCTION.numpy())[inside] ** 2)
    assert loss(MASK, 0.0) == pytest.approx(pixels)
    assert loss(torch.zeros_like(MASK), 0.0) == 0
