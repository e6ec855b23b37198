"""Models that are trained by gradients: learning rates, schedules, and parts of a training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import LRSchedulerPLType
from torch import nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LinearLR, LRScheduler

from anomalib_xray.errors import XrayError
from anomalib_xray.training.radiograph_model import RadiographModel

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
        steps: Number of steps of the scheduler, one per epoch.

    Returns:
        The scheduler, ``None`` for a constant rate.

    >>> optimizer = Adam(nn.Linear(2, 2).parameters(), lr=1.0)
    >>> make_scheduler(optimizer, "linear", 100).get_last_lr()
    [1.0]
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


def make_adam(weights: Iterable[nn.Parameter], rate: float, **settings: Any) -> Adam:
    """Builds Adam, on a CPU in one pass over weights, gradients and moments: a third of the time of eight passes.

    The results agree to rounding. On a GPU Torch chooses; there a fused one excludes clipping in half precision.

    Args:
        weights: What is trained, on the device that trains it.
        rate: Learning rate.
        settings: Further settings of Adam.

    >>> import torch
    >>> make_adam([nn.Parameter(torch.zeros(1))], 1e-3).defaults["fused"]
    True
    """
    weights = list(weights)
    on_cpu = all(weight.device.type == "cpu" for weight in weights)
    return Adam(weights, lr=rate, fused=True if on_cpu else None, **settings)


class Phases(NamedTuple):
    """Two parts of a training, one after the other.

    The part follows from the epoch and the length of the training alone, so that a training that goes on from a
    checkpoint does what it would have done.

    Attributes:
        first: Epochs of the first part; ``None`` where the training is not divided.
        epochs: Epochs of the whole training, ``None`` where it has no end.
    """

    first: int | None = None
    epochs: int | None = None

    @classmethod
    def by_share(cls, first: float, epochs: int | None) -> Phases:
        """Divides a training by the share of the first part; epochs that are too few to be divided are left whole.

        >>> phases = Phases.by_share(0.6, 10)
        >>> [phases.of(epoch) for epoch in range(10)]
        [0, 0, 0, 0, 0, 0, 1, 1, 1, 1]
        """
        number = 0 if epochs is None else round(first * epochs)
        return cls(number, epochs) if epochs is not None and 1 <= number < epochs else cls(None, epochs)

    def of(self, epoch: int) -> int | None:
        """The part that an epoch belongs to, 0 or 1; ``None`` where the training is not divided."""
        return None if self.first is None else int(epoch >= self.first)

    def share(self, part: int) -> float:
        """Share of the epochs that are a part's; 1 where the training is not divided."""
        if self.first is None or not self.epochs:
            return 1.0
        return 1 - self.first / self.epochs if part else self.first / self.epochs


def check_share(name: str, share: float, without: str, example: float) -> None:
    """Checks a setting that is a share of the epochs, 0 for none.

    Args:
        name: Name of the setting.
        share: Its value.
        without: The meaning of 0.
        example: A value that would do.

    Raises:
        XrayError: The share is out of range.

    >>> check_share("encoder_share", 1.5, "no encoder", 0.2)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    anomalib_xray.errors.XrayError: encoder_share is 1.5, but it is at least 0 (no encoder) and less than 1; ...
    """
    if not 0 <= share < 1:
        msg = f"{name} is {share}, but it is at least 0 ({without}) and less than 1; take for example {example}."
        raise XrayError(msg)


class TrainedModel(RadiographModel):
    """Mixin of a plugin that is trained by gradients: ``class FeatureAe(TrainedModel, AnomalibModule)``.

    All weights that want a gradient are trained by Adam; a plugin with other optimisers builds them in
    ``configure_optimizers`` and gives them the schedule of the settings by :meth:`with_schedule`. One that trains in
    two parts says so in :meth:`phases`.

    Args:
        learning_rate: Learning rate of Adam.
        schedule: Learning rate over the training: ``constant``, ``linear``, ``cosine`` or ``exponential``.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    """Coefficients of Adam, of a plugin without a setting for them."""

    weight_decay: float = 0.0
    """Weight decay of Adam, as above."""

    def __init__(self, learning_rate: float = 1e-3, schedule: Schedule = "constant", **settings: Any) -> None:
        super().__init__(**settings)
        self.learning_rate, self.schedule = learning_rate, schedule

    def configure_optimizers(self) -> Any:
        """Adam on all that is trained, with the schedule of the settings."""
        trained = [weight for weight in self.parameters() if weight.requires_grad]
        return self.with_schedule(
            make_adam(trained, self.learning_rate, betas=self.betas, weight_decay=self.weight_decay)
        )

    def phases(self) -> Phases:
        """The parts of the training, for a plugin that has two."""
        return Phases()

    def check_end(self, name: str, value: Any, instead: str) -> None:
        """Refuses a setting that needs the number of epochs in a training that has no end."""
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 1:
            msg = f"{name} is {value!r}, but training has no end; set trainer.max_epochs, or {instead}."
            raise XrayError(msg)

    def with_schedule(self, optimizer: Optimizer, part: int | None = None) -> OptimizerLRSchedulerConfig | Optimizer:
        """Adds a scheduler, stepped after each epoch, if the rate is to change.

        Args:
            optimizer: The optimiser.
            part: The part of :meth:`phases` that it is used in; all of the training if left out.

        Returns:
            The optimiser alone, or with its scheduler as Lightning takes it.

        Raises:
            XrayError: The rate is to change, and the trainer does not know when training ends.
        """
        if self.schedule == "constant" or self._trainer is None:
            return optimizer
        self.check_end("schedule", self.schedule, "schedule: constant")
        # Epochs, because a trainer that is asked for its steps sets its loader up before a checkpoint's progress is
        # restored, and the loader's first epoch would then not be the one that the training goes on with.
        share = 1.0 if part is None else self.phases().share(part)
        scheduler = make_scheduler(optimizer, self.schedule, round(share * (self.trainer.max_epochs or 1)))
        assert scheduler is not None  # not constant
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}

    def _optimizers(self) -> list[LightningOptimizer]:
        """All optimisers; Lightning gives a single one without a list."""
        optimizers = self.optimizers()
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def _schedulers(self) -> list[LRSchedulerPLType]:
        """The schedulers of the optimisers, none for constant rates."""
        schedulers = self.lr_schedulers() or []
        return schedulers if isinstance(schedulers, list) else [schedulers]
