"""What models share that are fitted to an epoch's images instead of trained by gradients."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as distributed
from anomalib.data import ImageBatch
from torch import Tensor

from anomalib_xray.components.radiograph_model import RadiographModel
from anomalib_xray.detectors import Reservoir
from anomalib_xray.errors import XrayError

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule
else:
    AnomalibModule = object

logger = logging.getLogger(__name__)


class FittedModel(RadiographModel, AnomalibModule):
    """Mixin of a plugin that learns nothing by gradients: ``class Nmf(FittedModel, AnomalibModule)``.

    Its ``self.model`` turns images ``(N, 1, S, S)`` into ``vectors(image)``, ``(M, D)``, of which a fair sample of
    ``references`` is kept, and ``fit(vectors)`` is called before a validation and at the end of the epoch. The
    constructor has the argument ``references`` besides those of :class:`RadiographModel`. One epoch is enough; another
    one fits anew.

    Unlike anomalib's ``MemoryBankMixin`` it is not fitted to nothing by Lightning's sanity check.
    """

    _seen: Reservoir
    _fitted_to: int

    def start(self, scores: Sequence[str]) -> None:
        """As :meth:`RadiographModel.start`.

        Args:
            scores: Names of the scores that the model computes.

        Raises:
            XrayError: As there, or no image is kept.
        """
        super().start(scores)
        if self.hparams["references"] < 1:
            msg = f"references is {self.hparams['references']}, but {self.name} is fitted to at least 1 vector."
            raise XrayError(msg)
        self._forget()

    def configure_optimizers(self) -> None:
        """There is nothing to optimise."""

    def on_fit_start(self) -> None:
        """Says when training would do the same again and again."""
        super().on_fit_start()
        if self.trainer.max_epochs != 1:
            logger.warning("%s is fitted anew in every epoch; set trainer.max_epochs to 1.", self.name)

    def on_train_epoch_start(self) -> None:
        """Forgets the images of the epoch before."""
        super().on_train_epoch_start()
        self._forget()

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:  # noqa: ANN401
        """Keeps what the model is fitted to; Lightning needs a loss to count the step, and gets one of 0."""
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            vectors: Tensor = self.model.vectors(self.grey(batch))  # type: ignore[operator]  # a method, not a module
        self._seen.add(vectors)
        return torch.zeros((), device=self.device, requires_grad=True)

    def on_validation_start(self) -> None:
        """A validation within an epoch judges what the model has seen so far."""
        self._fit()

    def on_train_epoch_end(self) -> None:
        """The checkpoint holds a fitted model, with or without a validation before it."""
        super().on_train_epoch_end()
        self._fit()
        self._forget()

    def _fit(self) -> None:
        """Fits to the images of the epoch, unless that was done already or there is none, as in a sanity check."""
        if self._seen.seen > self._fitted_to:
            vectors = _of_all_processes(self._seen.rows())
            logger.info(
                "%s is fitted to %d of %d vectors of training images.", self.name, len(vectors), self._seen.seen
            )
            self.model.fit(vectors)  # type: ignore[operator]  # as above
            self._fitted_to = self._seen.seen

    def _forget(self) -> None:
        self._seen = Reservoir(self.hparams["references"], self.hparams["seed"] or 0)
        self._fitted_to = 0


def _of_all_processes(rows: Tensor) -> Tensor:
    """The rows of every process, so that all fit the same model."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return rows
    parts: list[Tensor] = [rows] * distributed.get_world_size()
    distributed.all_gather_object(parts, rows)
    return torch.cat(parts)
