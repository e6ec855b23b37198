"""Learning rates that change while a model trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lightning.pytorch import Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LinearLR, LRScheduler

from anomalib_xray.errors import XrayError

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

Schedule = Literal["constant", "linear", "cosine", "exponential"]

LAST_SHARE = 0.01
"""Share of the learning rate that is left at the end."""


def make_scheduler(optimizer: Optimizer, schedule: Schedule, steps: int) -> LRScheduler | None:
    """Lowers a learning rate from its full value to a hundredth.

    Args:
        optimizer: The optimiser.
        schedule: ``constant``; ``linear`` and ``exponential`` fall along a line and along an exponential; ``cosine``
            along half a cosine (Loshchilov and Hutter 2017, without restarts).
        steps: Number of steps of the scheduler, one an epoch.

    Returns:
        The scheduler, ``None`` for a constant rate.
    """
    steps = max(steps, 1)
    if schedule == "linear":
        return LinearLR(optimizer, start_factor=1.0, end_factor=LAST_SHARE, total_iters=steps)
    if schedule == "exponential":
        return ExponentialLR(optimizer, gamma=LAST_SHARE ** (1 / steps))
    if schedule == "cosine":
        rate = max(float(group["lr"]) for group in optimizer.param_groups)
        return CosineAnnealingLR(optimizer, T_max=steps, eta_min=LAST_SHARE * rate)
    return None


def with_schedule(
    optimizer: Optimizer, schedule: Schedule, trainer: Trainer | None, share: float = 1.0
) -> OptimizerLRSchedulerConfig | Optimizer:
    """An optimiser as Lightning takes it, with its scheduler if the rate is to change.

    Args:
        optimizer: The optimiser.
        schedule: See :func:`make_scheduler`.
        trainer: The trainer, which knows how long training takes; may lack for a constant rate.
        share: Share of the training in which the optimiser is used.

    Returns:
        The optimiser alone, or with a scheduler that is stepped after each epoch.

    Raises:
        XrayError: The trainer does not know when training ends.
    """
    if schedule == "constant" or trainer is None:
        return optimizer
    # Epochs, because a trainer that is asked for its steps sets its loader up before a checkpoint's progress is
    # restored, and the loader's first epoch would then not be the one that the training goes on with.
    epochs = trainer.max_epochs
    if epochs is None or epochs < 1:
        msg = f"schedule is {schedule!r}, but training has no end; set trainer.max_epochs, or schedule: constant."
        raise XrayError(msg)
    scheduler = make_scheduler(optimizer, schedule, round(share * epochs))
    assert scheduler is not None  # not constant
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}
