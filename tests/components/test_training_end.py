from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from anomalib_xray.components.training_end import TrainingEnd

NOW = datetime(2026, 11, 27, 12, 0).timestamp()


class SlowEpochs(Callback):
    """A clock by which epochs take as many seconds as they are told to, not a moment of real time."""

    def __init__(self, seconds: list[float]) -> None:
        self.now = NOW
        self.seconds = iter(seconds)

    def on_train_epoch_end(self, *_: Any) -> None:  # before the callback that is tested, which is listed later
        self.now += next(self.seconds)


def printed(capsys: pytest.CaptureFixture[str], seconds: list[float], checkpoint: str | None = None, **how: Any) -> str:
    epochs = SlowEpochs(seconds)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        limit_train_batches=3,
        limit_val_batches=0,
        callbacks=[epochs, TrainingEnd(lambda: epochs.now)],
        **how,
    )
    capsys.readouterr()
    trainer.fit(BoringModel(), ckpt_path=checkpoint)
    return "\n".join(line for line in capsys.readouterr().out.splitlines() if "ends about" in line)


def test_the_end_is_said_once_after_the_second_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, [1000, 60, 70, 80, 90], max_epochs=5) == (
        "The second epoch took 60 s: this training ends about 2026-11-27 12:20, in 3 min (epochs left: 3)."
    )


@pytest.mark.parametrize(
    ("how", "left"),
    [
        ({"max_epochs": -1, "max_steps": 8}, "in 60 s (epochs left: 1)"),
        ({"max_epochs": 100, "max_steps": 14}, "in 3 min (epochs left: 3)"),
        ({"max_epochs": 5, "max_steps": 14}, "in 3 min (epochs left: 3)"),
    ],
)
def test_the_earlier_limit_counts(how: dict[str, int], left: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert left in printed(capsys, [60] * 5, **how)


def test_a_limit_of_time_counts(capsys: pytest.CaptureFixture[str]) -> None:
    minutes = re.search(r"in (\d+) min", printed(capsys, [3600] * 3, max_epochs=3, max_time={"minutes": 30}))
    assert minutes is not None
    assert int(minutes[1]) in (29, 30)  # Lightning's timer has a clock of its own


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_training_that_is_at_its_end_says_nothing(epochs: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, [60] * epochs, max_epochs=epochs) == ""


def test_a_training_that_goes_on_counts_from_there(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    first = Trainer(
        accelerator="cpu", logger=False, max_epochs=10, limit_train_batches=3, limit_val_batches=0,
        enable_progress_bar=False, enable_checkpointing=False,
    )  # fmt: skip
    first.fit(BoringModel())
    first.save_checkpoint(tmp_path / "ten.ckpt")
    text = printed(capsys, [60] * 10, str(tmp_path / "ten.ckpt"), max_epochs=20)
    assert "(epochs left: 8)" in text
