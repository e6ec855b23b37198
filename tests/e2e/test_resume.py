"""A training that was interrupted goes on as if it had never stopped, shuffling, augmentation and noise included."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from lightning.pytorch import Callback, Trainer

from anomalib_xray import models
from anomalib_xray.data import Phantom
from anomalib_xray.training.engine import TERMINATED

EPOCHS = 3


class StopAfter(Callback):
    """Ends a training after some epochs that was to have more."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.current_epoch + 1 == self.epochs


def train(name: str, folder: Path, stop: int = EPOCHS, resume: Path | None = None) -> tuple[AnomalibModule, Path]:
    """Trains up to an epoch; returns the model and its last checkpoint."""
    data = Phantom(root=folder / "phantoms", patients=12, num_workers=0, train_batch_size=4)
    engine = Engine(
        max_epochs=EPOCHS,
        callbacks=[StopAfter(stop)],
        default_root_dir=folder / "results",
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
    )
    model: AnomalibModule = getattr(models, name)(image_size=64, width=8, schedule="cosine")
    engine.fit(model, datamodule=data, ckpt_path=resume)
    return model, Path(engine.best_model_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Cae", "AlphaGan"])
def test_resumed_training_ends_with_the_same_weights(name: str, tmp_path: Path) -> None:
    uninterrupted, _ = train(name, tmp_path)
    _, checkpoint = train(name, tmp_path, stop=1)
    kept = shutil.copy(checkpoint, tmp_path / "interrupted.ckpt")
    resumed, _ = train(name, tmp_path, resume=kept)
    for key, weight in uninterrupted.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], weight), key


class Terminate(Callback):
    """Sends SIGTERM in the second epoch, as a scheduler does that needs the machine."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.slow
def test_a_terminated_training_keeps_its_checkpoint_and_is_no_success(tmp_path: Path) -> None:
    data = Phantom(root=tmp_path / "phantoms", patients=12, num_workers=0, train_batch_size=4)
    settings = {"default_root_dir": tmp_path, "accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    engine = Engine(max_epochs=EPOCHS, callbacks=[Terminate()], **settings)
    with pytest.raises(SystemExit) as ended:
        engine.fit(models.Cae(image_size=64, width=8), datamodule=data)
    assert ended.value.code == TERMINATED
    (checkpoint,) = tmp_path.rglob("model.ckpt")
    assert torch.load(checkpoint, weights_only=True)["epoch"] == 0
