"""Part of the contract: training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from anomalib_xray.testing.base import (
    ContractBase,
    Training,
    assert_same_weights,
    fit,
    normal_batch,
    prepared,
    score,
)


class LossHistory(Callback):
    """Keeps a logged loss of every epoch.

    Args:
        name: Name of the loss.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.values: list[float] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads what the model logged."""
        del pl_module
        assert self.name in trainer.callback_metrics, (
            f"{self.name} was not logged; set falling_loss to one of {', '.join(trainer.callback_metrics)}"
        )
        self.values.append(float(trainer.callback_metrics[self.name]))


class TrainingContract(ContractBase):
    """Training works from the first step and can be repeated."""

    def test_logs_the_loss_of_every_player(self, trained: Training) -> None:
        """There is at least one finite ``train_...loss`` an optimiser, and one at all."""
        if self.falling_loss is None:
            pytest.skip(f"{self.model.__name__} has no loss")
        losses = {
            name: value
            for name, value in trained.metrics.items()
            if name.startswith("train_") and name.endswith("loss")
        }
        optimizers = trained.model.configure_optimizers()
        players = len(optimizers) if isinstance(optimizers, list | tuple) else 1
        assert len(losses) >= players, f"{players} optimisers, but only these losses are logged: {sorted(losses)}"
        assert [name for name, value in losses.items() if not value.isfinite()] == []

    def test_trains_and_scores_a_batch_of_one(self, tmp_path: Path) -> None:
        """The last batch of an epoch may hold one image."""
        model = self.make_model()
        image = prepared(model)[:1]
        fit(model, [normal_batch(image)], tmp_path)
        output = score(model, image)
        for name, values in output.scores.items():
            assert values.isfinite().all(), name
            assert values.shape == (1,), name

    def test_same_seed_gives_the_same_model(self, tmp_path: Path) -> None:
        """Two models of one seed have equal weights before and after two steps, and score alike."""
        # The state of the generator differs, so that only the model's own seed can make them equal.
        torch.manual_seed(1)
        first = self.make_model(seed=7)
        torch.manual_seed(2)
        assert_same_weights(self.make_model(seed=7), first)

        images = prepared(first)
        batches = [normal_batch(images[:2]), normal_batch(images[2:])]
        scores = []
        trained = []
        for run in ("first", "second"):
            model = self.make_model(seed=7)
            trained.append(fit(model, batches, tmp_path / run).model)
            scores.append(score(model, images).scores)
        assert_same_weights(trained[1], trained[0])
        for name, values in scores[0].items():
            assert torch.equal(scores[1][name], values), name

    def test_training_lowers_the_loss(self, tmp_path: Path) -> None:
        """``falling_loss`` falls within ``steps`` steps on one batch."""
        if self.falling_loss is None:
            pytest.skip(f"{self.model.__name__} has no loss")
        model = self.make_model()
        losses = LossHistory(self.falling_loss)
        fit(model, [normal_batch(prepared(model))], tmp_path, epochs=self.steps, callbacks=(losses,))
        assert len(losses.values) == self.steps
        assert losses.values[-1] < losses.values[0], f"{self.falling_loss}: {losses.values}"
