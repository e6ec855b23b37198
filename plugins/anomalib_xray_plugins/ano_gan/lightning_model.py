"""AnoGAN as an anomalib model."""

from __future__ import annotations

import logging
from typing import Any

import torch
from anomalib.data import ImageBatch
from anomalib.models import AnomalibModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from anomalib_xray.errors import XrayError
from anomalib_xray.training.reconstruction_model import ReconstructionModel
from anomalib_xray_plugins.ano_gan.torch_model import SCORES, AnoGanModel
from anomalib_xray_plugins.dcgan.training import PairTraining

logger = logging.getLogger(__name__)


class AnoGan(ReconstructionModel, PairTraining, AnomalibModule):
    """AnoGAN: a generative adversarial network trained on normal radiographs, and a search for what it can generate.

    For every image the code is sought by back-propagation whose generated image resembles it most; what remains
    different is unusual. That takes seconds a batch, and cannot be exported; ``FAnoGan`` learns to find the code.

    Source: Schlegl et al. 2017 (1703.05921). Differences are means over the foreground and over the features, where the
    original has sums, so that its score also grows with the size of what is shown; the search uses Adam.

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        width: Channels of the generator's last level; every level towards the code doubles them.
        latent_size: Length of the code.
        search_steps: Number of steps of a search.
        validation_search_steps: Number of steps in the validations while training goes on, so that they do not take
            longer than training; the last one, which sets the threshold, takes all. None for all always, which a
            checkpoint that is chosen by its validation needs.
        search_learning_rate: Learning rate of a search.
        feature_weight: Share of the discriminator's features in what a search makes small, 0 to 1.
        restarts: Number of codes that a search starts from; the closest image of all counts.
        score: Score that becomes the predicted score: ``mse``, ``l1``, ``smooth_l1`` or ``ssim``, each also with
            ``_top_k``, ``residual``, ``feature``, ``anogan`` or ``discriminator``.
        extra_scores: Errors whose scores are computed besides: ``ssim``.

    Raises:
        XrayError: A search without steps or starts.

    Example:
        >>> print(AnoGan(width=4, latent_size=8).why_not_exportable())
        AnoGan searches each image's code by back-propagation, which an exported model cannot do; train FAnoGan, whose
        encoder finds the code, and export that.
    """

    model: AnoGanModel
    scores = SCORES
    threshold_steps: Tensor

    def __init__(
        self,
        image_size: int = 64,
        width: int = 32,
        latent_size: int = 64,
        search_steps: int = 100,
        validation_search_steps: int | None = 20,
        search_learning_rate: float = 0.1,
        feature_weight: float = 0.1,
        restarts: int = 1,
        score: str = "mse_top_k",
        extra_scores: list[str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(
            image_size=image_size,
            width=width,
            latent_size=latent_size,
            score=score,
            extra_scores=extra_scores,
            **settings,
        )
        self.search_steps, self.validation_search_steps = search_steps, validation_search_steps
        self._check_search(restarts, feature_weight)
        self.model = AnoGanModel(
            *self.networks,
            search_steps,
            search_learning_rate,
            feature_weight,
            restarts,
            self.make_scorer(),
            self.adversarial_loss,
        )
        # How many steps the searches took that the threshold was set on; 0 before any.
        self.register_buffer("threshold_steps", torch.zeros((), dtype=torch.long))

    def _check_search(self, restarts: int, feature_weight: float) -> None:
        """Refuses impossible settings of the search."""
        steps = {"search_steps": self.search_steps, "validation_search_steps": self.validation_search_steps}
        for name, number in {**steps, "restarts": restarts}.items():
            if number is not None and number < 1:
                msg = f"{name} is {number}, but a search has at least 1."
                raise XrayError(msg)
        if not 0 <= feature_weight <= 1:
            msg = f"feature_weight is {feature_weight}, but it is a share from 0 to 1."
            raise XrayError(msg)
        if "gradient" in (self.extra_scores or ()):
            msg = "extra_scores names gradient, but the AnoGAN's search has none; leave it out."
            raise XrayError(msg)

    def on_validation_start(self) -> None:
        """Notes how long the searches of this validation are, for :meth:`on_test_start`."""
        super().on_validation_start()
        self.threshold_steps.fill_(self._validation_steps())

    def validation_step(self, batch: ImageBatch, batch_idx: int, *args: Any, **kwargs: Any) -> Any:
        """As that of all models, with shorter searches as long as training goes on."""
        self.model.search_steps = self._validation_steps()
        try:
            return super().validation_step(batch, batch_idx, *args, **kwargs)
        finally:
            self.model.search_steps = self.search_steps

    def _validation_steps(self) -> int:
        """Number of steps of the searches of the validation that is going on."""
        steps, fewer = self.search_steps, self.validation_search_steps
        if fewer is None or self.trainer.state.fn != TrainerFn.FITTING or self._ends():
            return steps
        return min(steps, fewer)

    def _ends(self) -> bool:
        """Whether training ends with this epoch."""
        trainer = self.trainer
        epochs, steps = trainer.max_epochs, trainer.max_steps
        last_epoch = epochs is not None and epochs > 0 and self.current_epoch >= epochs - 1
        return last_epoch or trainer.should_stop or 0 <= steps <= trainer.global_step

    def on_test_start(self) -> None:
        """Says so if the threshold was set on shorter searches."""
        super().on_test_start()
        steps = int(self.threshold_steps)
        if 0 < steps < self.search_steps:
            logger.warning(
                "The threshold was set on searches of %d steps, not of %d: train with validation_search_steps: null.",
                steps,
                self.search_steps,
            )

    def why_not_exportable(self) -> str:
        """The search back-propagates."""
        return (
            "AnoGan searches each image's code by back-propagation, which an exported model cannot do; train FAnoGan, "
            "whose encoder finds the code, and export that."
        )
