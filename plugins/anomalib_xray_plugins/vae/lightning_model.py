"""Variational autoencoder as an anomalib model."""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.visualization import Visualizer
from torch import Tensor, nn, optim

from anomalib_xray.components import RadiographModel, ReconstructionLoss, Schedule, masked_reconstruction_loss
from anomalib_xray.components.pictures import PICTURES_IN_A_ROW
from anomalib_xray.errors import XrayError
from anomalib_xray.scores import ReconstructionScorer, foreground
from anomalib_xray_plugins.vae.active_units import ActiveUnits
from anomalib_xray_plugins.vae.loss import Reduction, divergence_loss, warmed_up
from anomalib_xray_plugins.vae.torch_model import SCORES, VaeModel

logger = logging.getLogger(__name__)

PATIENCE = 5
"""Number of epochs in a row without an active unit after which a collapsed posterior is reported."""


class Vae(RadiographModel, AnomalibModule):
    """Variational autoencoder trained on normal radiographs: reconstruction error plus weighted divergence of the code.

    Logged each epoch is ``train_active_units``, the number of units of the code whose mean differs between images; 0
    means that the posterior has collapsed: every reconstruction is the same picture. Sources: Kingma and Welling 2014
    (1312.6114); arXiv 2001.10883, section 3.

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        equalize: Whether the foreground's histogram is equalised.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        width: Channels of the first level; every level doubles them.
        latent_size: Length of the code.
        reconstruction_loss: Error of the reconstruction: ``mse``, ``l1``, ``smooth_l1``, ``ssim`` (1 - SSIM), or
            ``bce`` as published.
        masked: Whether the loss counts the foreground only; not as published.
        beta: Weight of the divergence.
        divergence: Scale of the divergence: ``pixels``, divided by the number of pixels that count, or ``sum`` over
            batch and code as published, which lets the posterior collapse unless ``beta`` is tiny.
        kl_warmup: Epochs over which the weight of the divergence rises to ``beta``; 0 for none.
        score: Score that becomes the predicted score: ``mse``, ``l1``, ``smooth_l1``, ``bce``, ``ssim`` or
            ``gradient``, each also with ``_top_k``, ``kld``, ``l1_kld``, ``mse_kld`` or ``bce_kld``.
        extra_scores: Errors whose scores are computed besides: ``ssim``, ``gradient``.
        top_k: Pixels of the top-k scores: a number, or a fraction of the foreground if below 1.
        map_sigma: Smoothing of the anomaly map, in pixels of the network's input.
        learning_rate: Learning rate of Adam.
        weight_decay: Weight decay of Adam.
        schedule: Learning rate over the training: ``constant``, ``linear``, ``cosine`` or ``exponential``.
        seed: Seed of weights, codes, shuffling and augmentation; none leaves them random.
        pre_processor: Pre-processor, or whether to use the default one.
        post_processor: Post-processor, or whether to use the default one.
        evaluator: Evaluator, or whether to use the default one.
        visualizer: Visualizer, or whether to use the default one.

    Raises:
        XrayError: An image size or score that the model does not have, or a negative ``beta`` or ``kl_warmup``.
    """

    fixed_codes: Tensor

    def __init__(
        self,
        image_size: int = 128,
        equalize: bool = False,
        augmentation: Literal["default", "advanced"] | None = "default",
        width: int = 32,
        latent_size: int = 128,
        reconstruction_loss: ReconstructionLoss = "mse",
        masked: bool = True,
        beta: float = 1e-3,
        divergence: Reduction = "pixels",
        kl_warmup: int = 10,
        score: str = "mse_top_k",
        extra_scores: list[str] | None = None,
        top_k: float = 0.03,
        map_sigma: float = 1.0,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.0,
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
        for name, value in {"beta": beta, "kl_warmup": kl_warmup}.items():
            if value < 0:
                msg = f"{name} is {value}, but it cannot be negative; 0 leaves it out."
                raise XrayError(msg)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.model: VaeModel = VaeModel(
            image_size, width, latent_size, ReconstructionScorer(score, top_k, map_sigma, extra_scores)
        )
        self.register_buffer("fixed_codes", torch.randn(PICTURES_IN_A_ROW, latent_size))
        self.active_units = ActiveUnits()
        self.collapsed_epochs = 0

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:  # noqa: ANN401
        """Lowers the error of a reconstruction from a drawn code, and the divergence of the code."""
        settings = self.hparams
        image = self.grey(batch)
        mask = foreground(image) if settings["masked"] else torch.ones_like(image)
        made, mean, deviation = self.model(batch.image)
        reconstruction = masked_reconstruction_loss(made, image, mask, settings["reconstruction_loss"])
        divergence = divergence_loss(mean, deviation, mask, settings["divergence"])
        weight = warmed_up(settings["beta"], self.current_epoch, settings["kl_warmup"])
        loss = reconstruction + weight * divergence
        self.active_units.update(mean)
        self.log_losses({"loss": loss, "reconstruction_loss": reconstruction, "kld": divergence}, len(image))
        return loss

    def on_train_epoch_end(self) -> None:
        """Logs how many units of the code are active, and warns once if none stays so."""
        active = self.active_units.count()
        self.active_units.reset()
        self.log("train_active_units", float(active))
        self.collapsed_epochs = 0 if active else self.collapsed_epochs + 1
        if self.collapsed_epochs == PATIENCE:
            logger.warning(
                "Epoch %d, for %d epochs: no unit of the code tells images apart, so that every reconstruction is the "
                "same picture (the posterior has collapsed); lower beta, set divergence to pixels, or raise kl_warmup.",
                self.current_epoch,
                PATIENCE,
            )

    def pictures(self, image: Tensor) -> dict[str, Tensor]:
        """Images above their reconstructions, and samples from fixed codes."""
        rows = self.reconstruction_rows(image, self.model.reconstruct(image))
        return {**rows, "samples": self.model.decoder(self.fixed_codes)}

    def configure_optimizers(self) -> Any:  # noqa: ANN401  # Lightning's union of forms
        """Adam, with the schedule of the settings."""
        return self.with_schedule(optim.Adam(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay))
