"""Models that are fitted to an epoch's images instead of trained by gradients."""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from anomalib.data import ImageBatch
from torch import Tensor

from anomalib_xray.detectors import USUAL_DETECTORS, DetectorSettings, Gamma, Reservoir, Subset, check_detectors
from anomalib_xray.errors import XrayError
from anomalib_xray.training.radiograph_model import RadiographModel
from anomalib_xray.training.score_table import of_all_processes

logger = logging.getLogger(__name__)


class FittedModel(RadiographModel):
    """Mixin of a plugin that learns nothing by gradients: ``class Nmf(FittedModel, AnomalibModule)``.

    Its ``self.model`` turns images ``(N, 1, S, S)`` into ``vectors(image)``, ``(M, D)``, of which a fair sample of
    ``references`` is kept, and ``fit(vectors)`` is called before a validation and at the end of the epoch. One epoch is
    enough; another one fits anew.

    Unlike anomalib's ``MemoryBankMixin`` it is not fitted to nothing by Lightning's sanity check.

    Args:
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        references: Largest number of vectors of training images that the model is fitted to, a random choice.

    Raises:
        XrayError: No vector is kept.
    """

    _seen: Reservoir
    _fitted_to: int

    def __init__(
        self,
        references: int = 2048,
        augmentation: Literal["default", "advanced"] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(augmentation=augmentation, **settings)
        if references < 1:
            raise XrayError(f"references is {references}, but {self.name} is fitted to at least 1 vector.")
        self.references = references
        self._forget()

    def configure_optimizers(self) -> None:
        """Nothing: there are no gradients."""

    def on_fit_start(self) -> None:
        """Warns where training would do the same again and again."""
        super().on_fit_start()
        if self.trainer.max_epochs != 1:
            logger.warning("%s is fitted anew in every epoch; set trainer.max_epochs to 1.", self.name)

    def on_train_epoch_start(self) -> None:
        """Forgets the images of the epoch before."""
        super().on_train_epoch_start()
        self._forget()

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:
        """Keeps what the model is fitted to; Lightning needs a loss to count the step, and gets one of 0."""
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            vectors: Tensor = self.model.vectors(self.grey(batch))  # type: ignore[operator]  # a method, not a module
        self._seen.add(vectors)
        return torch.zeros((), device=self.device, requires_grad=True)

    def on_validation_start(self) -> None:
        """Fits the model to what it has seen so far of the epoch."""
        self._fit()

    def on_train_epoch_end(self) -> None:
        """Fits the model before a checkpoint is written, with or without a validation before it."""
        super().on_train_epoch_end()
        self._fit()
        self._forget()

    def _fit(self) -> None:
        """Fits to the images of the epoch, unless that was done already or there is none, as in a sanity check."""
        if self._seen.seen > self._fitted_to:
            vectors = torch.cat(of_all_processes(self._seen.rows()))
            count = self._seen.seen
            logger.info("%s is fitted to %d of %d vectors of training images.", self.name, len(vectors), count)
            self.model.fit(vectors)  # type: ignore[operator]  # as above
            self._fitted_to = count

    def _forget(self) -> None:
        self._seen = Reservoir(self.references, self.seed or 0)
        self._fitted_to = 0


class DetectorModel(FittedModel):
    """Mixin of a plugin with classical detectors: ``class Nmf(DetectorModel, AnomalibModule)``.

    Args:
        detectors: Detectors that are fitted: ``knn``, ``mahalanobis``, ``one_class_svm`` and ``dbscan`` if left out, or
            some of these and ``subspace``.
        whiten: Whether the components that detectors see are scaled to unit variance.
        neighbours: Number of nearest vectors of ``knn``.
        nu: Share of the training images that may lie beyond the boundary of ``one_class_svm``.
        gamma: Width of its kernel: a number, ``scale`` or ``sweep``.
        eps: Radius of ``dbscan``; fits the training images if left out.
        min_samples: Images within this radius that ``dbscan`` calls dense.
        subspace_share: Share of the variance that the subspace of ``subspace`` holds.
        local: Number of nearest training vectors whose own scores a score is divided by, so that normal images of rare
            kinds are not called unusual; not divided if left out. Not with ``one_class_svm``.

    Raises:
        XrayError: An unknown detector.
    """

    def __init__(
        self,
        detectors: list[str] | None = None,
        whiten: bool = False,
        neighbours: int = 5,
        nu: float = 0.1,
        gamma: float | Gamma = "sweep",
        eps: float | None = None,
        min_samples: int = 5,
        subspace_share: float = 0.97,
        local: int | None = None,
        **settings: Any,
    ) -> None:
        self.detectors = USUAL_DETECTORS if detectors is None else tuple(detectors)
        check_detectors(self.detectors)
        super().__init__(**settings)
        self._detector_settings = (nu, gamma, eps, min_samples, subspace_share, local)
        self.whiten, self.neighbours = whiten, neighbours

    def detector_settings(
        self, components: float | None, limit: int | None = None, subset: Subset = "random"
    ) -> DetectorSettings:
        """All settings of the detectors; arguments as those of :class:`~anomalib_xray.detectors.DetectorSettings`."""
        return DetectorSettings(components, self.whiten, self.neighbours, limit, subset, *self._detector_settings)
