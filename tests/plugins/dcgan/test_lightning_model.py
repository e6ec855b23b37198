from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.engine import Engine

from anomalib_xray.data import Phantom
from anomalib_xray.errors import XrayError
from anomalib_xray.networks.adversarial import AdversarialLoss
from anomalib_xray_plugins.dcgan import Dcgan

PLAYERS = ("discriminator", "generator")


def small(**settings: Any) -> Dcgan:
    tiny = {"image_size": 64, "width": 4, "discriminator_width": 4, "latent_size": 16, "references": 64}
    return Dcgan(**{**tiny, **settings})


def batch(count: int = 4) -> ImageBatch:
    return ImageBatch(image=torch.rand(count, 1, 64, 64).repeat(1, 3, 1, 1))


class Turn:
    """An optimiser that notes which players hold gradients when it is its turn, and changes no weight."""

    def __init__(self, model: Dcgan, turns: list[dict[str, bool]]) -> None:
        self.model = model.model
        self.turns = turns

    def zero_grad(self) -> None:
        self.model.zero_grad()

    def step(self) -> None:
        gradients = {
            player: [weight.grad is not None for weight in getattr(self.model, player).parameters()]
            for player in PLAYERS
        }
        # Every weight of a player has a gradient or none has; a player with a mixture is missing here.
        self.turns.append({player: found[0] for player, found in gradients.items() if len(set(found)) == 1})


def step_of(model: Dcgan, monkeypatch: pytest.MonkeyPatch) -> tuple[list[dict[str, bool]], dict[str, torch.Tensor]]:
    """One training step without its optimisers; the turns that were taken and the losses that were logged."""
    turns: list[dict[str, bool]] = []
    logged: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(model, "optimizers", lambda: [Turn(model, turns) for _ in PLAYERS])
    monkeypatch.setattr(model, "manual_backward", lambda loss: loss.backward())
    monkeypatch.setattr(model, "lr_schedulers", lambda: None)
    monkeypatch.setattr(model, "log_losses", lambda losses, _: logged.update(losses))
    model._trainer = SimpleNamespace(max_epochs=10, current_epoch=0)  # type: ignore[assignment]  # all that a step asks
    model.training_step(batch())
    return turns, logged


@pytest.mark.parametrize("kind", ["log", "hinge", "wgan-gp"])
def test_gradients_reach_only_the_player_whose_turn_it_is(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(adversarial_loss=kind).train()
    turns, logged = step_of(model, monkeypatch)
    assert turns == [{other: other == player for other in PLAYERS} for player in PLAYERS]
    assert {f"{player}_loss" for player in PLAYERS} <= logged.keys()
    minibatch = model.model.discriminator.minibatch
    assert (minibatch is None) == (kind == "wgan-gp")
    assert minibatch is None or minibatch.stored == 4


@pytest.mark.parametrize(
    ("kind", "of_real", "of_fake", "of_generator"),
    [
        ("log", lambda x: np.log1p(np.exp(-x)), lambda x: np.log1p(np.exp(x)), lambda x: np.log1p(np.exp(-x))),
        ("hinge", lambda x: np.maximum(0, 1 - x), lambda x: np.maximum(0, 1 + x), lambda x: -x),
    ],
)
def test_losses_are_those_of_the_formulas(
    kind: AdversarialLoss, of_real: Any, of_fake: Any, of_generator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without spectral normalisation, whose vectors move with each pass, and without a batch's statistics.
    model = small(adversarial_loss=kind, spectral_norm=False, norm="none", minibatch_discrimination=False).train()
    torch.manual_seed(1)
    image = torch.rand(4, 1, 64, 64)
    codes = torch.randn(4, 16)
    torch.manual_seed(1)
    _, logged = step_of(model, monkeypatch)
    with torch.no_grad():
        real = model.model.discriminator(2 * image - 1).numpy()
        fake = model.model.discriminator(model.model.generator(codes)).numpy()
    assert logged["discriminator_loss"].item() == pytest.approx(of_real(real).mean() + of_fake(fake).mean(), rel=1e-4)
    assert logged["generator_loss"].item() == pytest.approx(of_generator(fake).mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("schedule", "epoch", "expected"), [("linear", 0, 0.1), ("linear", 5, 0.05), ("published", 0, 0.1 * 8 / 2)]
)
def test_noise_fades(schedule: Any, epoch: int, expected: float) -> None:
    model = small(instance_noise=0.1, noise_schedule=schedule)
    model._trainer = SimpleNamespace(max_epochs=10, current_epoch=epoch)  # type: ignore[assignment]  # as above
    assert model.noise_deviation() == pytest.approx(expected)


def test_each_player_has_its_optimizer() -> None:
    model = small(learning_rate=0.1, discriminator_learning_rate=0.2, betas=(0.4, 0.9))
    optimizers = model.configure_optimizers()
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == [0.2, 0.1]
    for player, optimizer in zip(PLAYERS, optimizers, strict=True):
        assert optimizer.param_groups[0]["betas"] == (0.4, 0.9)
        expected = {id(weight) for weight in getattr(model.model, player).parameters()}
        assert {id(weight) for weight in optimizer.param_groups[0]["params"]} == expected


def test_features_are_stored_at_the_end_of_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small().train()
    step_of(model, monkeypatch)
    assert model.model.memory.filled == 0
    model.on_validation_start()
    assert model.model.memory.filled == 1
    first = model.model.memory.references.clone()
    model.on_train_epoch_end()
    assert torch.equal(model.model.memory.references, first)
    assert model.seen == []


def test_few_images_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomalib_xray.training.gan_model.REFERENCE_PIXELS", 3 * 64**2)
    model = small().train()
    step_of(model, monkeypatch)
    model.training_step(batch())
    assert sum(map(len, model.seen)) == 3


def test_validation_without_training_leaves_the_memory() -> None:
    model = small()
    model.on_validation_start()
    assert model.model.memory.filled == 0


@pytest.mark.parametrize("settings", [{"references": 0}, {"soft_labels": 0.1}, {"image_size": 96}])
def test_refuses_wrong_settings(settings: dict[str, Any]) -> None:
    with pytest.raises(XrayError, match=str(next(iter(settings.values())))):
        small(**settings)


def test_a_run_writes_scores_and_pictures(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    phantoms = tmp_path_factory.getbasetemp() / "phantoms"
    datamodule = Phantom(root=phantoms, patients=12, train_batch_size=8, eval_batch_size=8, num_workers=0)
    model = small(score="discriminator")
    engine = Engine(max_epochs=1, accelerator="cpu", devices=1, logger=False, default_root_dir=tmp_path)
    engine.fit(model, datamodule=datamodule)
    engine.test(model, datamodule=datamodule)
    (table,) = tmp_path.rglob("scores.csv")
    header = table.read_text().splitlines()[0].split(",")
    assert {"discriminator", "feature_distance", "feature_distance_top_k"} <= set(header)
    assert list(tmp_path.rglob("images/**/*.png"))
