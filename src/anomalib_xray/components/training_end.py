"""When a training will end, said once it can be known."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from math import ceil

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from anomalib_xray.io.progress import duration


class TrainingEnd(Callback):
    """Prints after the second epoch when the training will end.

    The first epoch is longer than the others, because everything is loaded in it. The second one may lack a validation,
    or be of the first of several networks that are trained one after another, so that the time is a rough one.

    Args:
        clock: Seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.clock = clock

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """A training that goes on counts from where it was."""
        self.epochs, self.began, self.steps = 0, self.clock(), trainer.global_step

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Starts the clock."""
        self.began, self.steps = self.clock(), trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says it after the second epoch, if more are to come."""
        self.epochs += 1
        if self.epochs != 2:
            return
        now = self.clock()
        epochs, seconds = _epochs_left(trainer, self.steps), now - self.began
        if epochs is None or epochs < 1 or trainer.should_stop:
            return
        left = min([epochs * seconds, *_time_left(trainer)])
        end = datetime.fromtimestamp(now + left).astimezone()
        # Through the module, which knows the progress bar and which process prints.
        pl_module.print(
            f"The second epoch took {_seconds(seconds)}: this training ends about {end:%Y-%m-%d %H:%M}, "
            f"in {duration(left)} (epochs left: {epochs})."
        )


def _epochs_left(trainer: Trainer, steps_before: int) -> int | None:
    """Epochs that are still to come, the last of them perhaps in part; None if there is no end."""
    limits = []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        limits.append(trainer.max_epochs - trainer.current_epoch - 1)
    in_an_epoch = trainer.global_step - steps_before
    if trainer.max_steps >= 0 and in_an_epoch > 0:
        limits.append(ceil((trainer.max_steps - trainer.global_step) / in_an_epoch))
    return min(limits, default=None)


def _time_left(trainer: Trainer) -> list[float]:
    """What ``trainer.max_time`` leaves."""
    timers = [callback.time_remaining() for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]  # its stub lacks the list
    return [seconds for seconds in timers if seconds is not None]


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)
