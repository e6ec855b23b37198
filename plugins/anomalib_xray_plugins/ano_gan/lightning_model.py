"""AnoGAN as an anomalib model."""

from __future__ import annotations

import logging
from typing import Any, Literal, NoReturn

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.visualization import Visualizer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn

from anomalib_xray.components import AdversarialLoss, NoiseSchedule, Schedule, check_soft_labels
from anomalib_xray.errors import XrayError
from anomalib_xray.scores import ReconstructionScorer
from anomalib_xray_plugins.ano_gan.torch_model import SCORES, AnoGanModel
from anomalib_xray_plugins.dcgan.networks import Norm
from anomalib_xray_plugins.dcgan.training import PairTraining

logger = logging.getLogger(__name__)


class AnoGan(PairTraining, AnomalibModule):
    """AnoGAN: a generative adversarial network trained on normal radiographs, and a search for what it can generate.

    For every image the code is sought by back-propagation whose generated image resembles it most; what remains
    different is unusual. That takes seconds a batch, and cannot be exported; ``FAnoGan`` learns to find the code.

    Source: Schlegl et al. 2017 (1703.05921). Differences are means over the foreground and over the features, where the
    original has sums, so that its score also grows with the size of what is shown; the search uses Adam.

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        equalize: Whether the foreground's histogram is equalised.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        width: Channels of the generator's last level; every level towards the code doubles them.
        discriminator_width: Channels of the discriminator's first level; every further level doubles them.
        latent_size: Length of the code.
        norm: Normalisation of the generator's levels: ``batch`` or ``none``.
        spectral_norm: Whether the discriminator's convolutions are spectrally normalised.
        minibatch_discrimination: Whether the discriminator compares images with others of their batch; not with
            ``wgan-gp``.
        adversarial_loss: ``log`` (as published), ``hinge`` or ``wgan-gp``.
        gradient_penalty: Weight of the gradient penalty of ``wgan-gp``.
        soft_labels: Largest distance of the discriminator's labels from 0 and 1; with ``log`` only.
        instance_noise: Factor of the noise on what the discriminator sees in training; 0 for none.
        noise_schedule: How the noise fades: ``linear``, or ``published``.
        ema_decay: Decay of the moving average of the generator's weights that evaluation uses; 0 for none.
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
        top_k: Pixels of the top-k scores: a number, or a fraction of the foreground if below 1.
        map_sigma: Smoothing of the anomaly map, in pixels of the network's input.
        learning_rate: Learning rate of the generator.
        discriminator_learning_rate: Learning rate of the discriminator.
        betas: Coefficients of Adam.
        schedule: Learning rates over the training: ``constant``, ``linear``, ``cosine`` or ``exponential``.
        seed: Seed of weights, codes, shuffling and augmentation; none leaves them random.
        pre_processor: Pre-processor, or whether to use the default one.
        post_processor: Post-processor, or whether to use the default one.
        evaluator: Evaluator, or whether to use the default one.
        visualizer: Visualizer, or whether to use the default one.

    Raises:
        XrayError: An image size or score that the model does not have, soft labels with a loss that has no labels, or
            a search without steps or starts.
    """

    model: AnoGanModel
    threshold_steps: Tensor

    def __init__(
        self,
        image_size: int = 64,
        equalize: bool = False,
        augmentation: Literal["default", "advanced"] | None = "default",
        width: int = 32,
        discriminator_width: int = 16,
        latent_size: int = 64,
        norm: Norm = "batch",
        spectral_norm: bool = True,
        minibatch_discrimination: bool = True,
        adversarial_loss: AdversarialLoss = "hinge",
        gradient_penalty: float = 10.0,
        soft_labels: float = 0.0,
        instance_noise: float = 0.0,
        noise_schedule: NoiseSchedule = "linear",
        ema_decay: float = 0.0,
        search_steps: int = 100,
        validation_search_steps: int | None = 20,
        search_learning_rate: float = 0.1,
        feature_weight: float = 0.1,
        restarts: int = 1,
        score: str = "mse_top_k",
        extra_scores: list[str] | None = None,
        top_k: float = 0.03,
        map_sigma: float = 1.0,
        learning_rate: float = 2e-4,
        discriminator_learning_rate: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        schedule: Schedule = "constant",
        seed: int | None = 42,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        self.start(SCORES)
        check_soft_labels(soft_labels, adversarial_loss)
        self._check_search()
        self.model = AnoGanModel(
            image_size,
            width,
            discriminator_width,
            latent_size,
            norm,
            spectral_norm,
            self.hparams["minibatch_discrimination"],
            ema_decay,
            search_steps,
            search_learning_rate,
            feature_weight,
            restarts,
            ReconstructionScorer(score, top_k, map_sigma, extra_scores),
            adversarial_loss,
        )
        # How many steps the searches took that the threshold was set on; 0 before any.
        self.register_buffer("threshold_steps", torch.zeros((), dtype=torch.long))

    def _check_search(self) -> None:
        """Checks the settings of the search.

        Raises:
            XrayError: One cannot be.
        """
        settings = self.hparams
        for name in ("search_steps", "validation_search_steps", "restarts"):
            if settings[name] is not None and settings[name] < 1:
                msg = f"{name} is {settings[name]}, but a search has at least 1."
                raise XrayError(msg)
        if not 0 <= settings["feature_weight"] <= 1:
            msg = f"feature_weight is {settings['feature_weight']}, but it is a share from 0 to 1."
            raise XrayError(msg)
        if "gradient" in (settings["extra_scores"] or ()):
            msg = "extra_scores names gradient, but the AnoGAN's search has none; leave it out."
            raise XrayError(msg)

    def on_validation_start(self) -> None:
        """Notes how long the searches of this validation are, for :meth:`on_test_start`."""
        super().on_validation_start()
        self.threshold_steps.fill_(self._validation_steps())

    def validation_step(self, batch: ImageBatch, batch_idx: int, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """As that of all models, with shorter searches as long as training goes on."""
        self.model.search_steps = self._validation_steps()
        try:
            return super().validation_step(batch, batch_idx, *args, **kwargs)
        finally:
            self.model.search_steps = self.hparams["search_steps"]

    def _validation_steps(self) -> int:
        """Number of steps of the searches of the validation that is going on."""
        steps: int = self.hparams["search_steps"]
        fewer: int | None = self.hparams["validation_search_steps"]
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
        if 0 < steps < self.hparams["search_steps"]:
            logger.warning(
                "The threshold was set on searches of %d steps, not of %d: train with validation_search_steps: null.",
                steps,
                self.hparams["search_steps"],
            )

    def to_onnx(self, *_: Any, **__: Any) -> NoReturn:  # noqa: ANN401  # whatever it is asked for
        """Refused.

        Raises:
            XrayError: Always.
        """
        raise XrayError(NOT_EXPORTABLE)

    def to_openvino(self, *_: Any, **__: Any) -> NoReturn:  # noqa: ANN401  # whatever it is asked for
        """Refused.

        Raises:
            XrayError: Always.
        """
        raise XrayError(NOT_EXPORTABLE)

    def pictures(self, image: Tensor) -> dict[str, Tensor]:
        """Images above the closest generated ones, and samples from fixed codes."""
        return {**super().pictures(image), **self.reconstruction_rows(image, self.model.reconstruct(image))}


NOT_EXPORTABLE = (
    "AnoGan searches each image's code by back-propagation, which an exported model cannot do; train FAnoGan, whose "
    "encoder finds the code, and export that."
)
"""Why there is no export."""
