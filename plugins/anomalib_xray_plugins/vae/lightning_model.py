"""Variational autoencoder as an anomalib model."""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch
from anomalib.data import ImageBatch
from anomalib.models import AnomalibModule
from torch import Tensor

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.losses import ReconstructionLoss, masked_reconstruction_loss
from anomalib_xray.scores import foreground, kld_score
from anomalib_xray.training.pictures import PICTURES_IN_A_ROW
from anomalib_xray.training.reconstruction_model import ReconstructionModel
from anomalib_xray.training.trained_model import TrainedModel
from anomalib_xray_plugins.vae.torch_model import SCORES, VaeModel

logger = logging.getLogger(__name__)

Reduction = Literal["pixels", "sum"]

PATIENCE = 5
"""Number of epochs in a row without an active unit after which a collapsed posterior is reported."""


class Vae(ReconstructionModel, TrainedModel, AnomalibModule):
    """Variational autoencoder trained on normal radiographs: reconstruction error plus weighted divergence of the code.

    Logged each epoch is ``train_active_units``, the number of units of the code whose mean differs between images; 0
    means that the posterior has collapsed: every reconstruction is the same picture. Sources: Kingma and Welling 2014
    (1312.6114); arXiv 2001.10883, section 3.

    Args:
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
        learning_rate: Learning rate of Adam.
        weight_decay: Weight decay of Adam.

    Raises:
        XrayError: A negative ``beta`` or ``kl_warmup``.

    Example:
        >>> {"kld", "mse_kld"} <= set(Vae(width=4, latent_size=8, extra_scores=["ssim"]).scores)
        True
    """

    fixed_codes: Tensor
    scores = SCORES

    def __init__(
        self,
        width: int = 32,
        latent_size: int = 128,
        reconstruction_loss: ReconstructionLoss = "mse",
        masked: bool = True,
        beta: float = 1e-3,
        divergence: Reduction = "pixels",
        kl_warmup: int = 10,
        score: str = "mse_top_k",
        learning_rate: float = 2e-3,
        weight_decay: float = 0.0,
        **settings: Any,
    ) -> None:
        super().__init__(score=score, learning_rate=learning_rate, **settings)
        for name, value in {"beta": beta, "kl_warmup": kl_warmup}.items():
            if value < 0:
                msg = f"{name} is {value}, but it cannot be negative; 0 leaves it out."
                raise XrayError(msg)
        self.reconstruction_loss, self.masked, self.weight_decay = reconstruction_loss, masked, weight_decay
        self.beta, self.divergence, self.kl_warmup = beta, divergence, kl_warmup
        self.model: VaeModel = VaeModel(self.image_size, width, latent_size, self.make_scorer())
        self.register_buffer("fixed_codes", torch.randn(PICTURES_IN_A_ROW, latent_size))
        self.active_units = ActiveUnits()
        self.collapsed_epochs = 0

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:
        """Lowers the error of a reconstruction from a drawn code, and the divergence of the code."""
        image = self.grey(batch)
        mask = foreground(image) if self.masked else torch.ones_like(image)
        made, mean, deviation = self.model(batch.image)
        reconstruction = masked_reconstruction_loss(made, image, mask, self.reconstruction_loss)
        divergence = divergence_loss(mean, deviation, mask, self.divergence)
        weight = warmed_up(self.beta, self.current_epoch, self.kl_warmup)
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
        return {**super().pictures(image), "samples": self.model.decoder(self.fixed_codes)}


def divergence_loss(mean: Tensor, deviation: Tensor, mask: Tensor, reduction: Reduction) -> Tensor:
    """Divergence of a batch's codes from the standard normal distribution, on the scale of a mean pixel or not.

    Source: Kingma and Welling 2014 (1312.6114), section 2.3; its weight Higgins et al. 2017; arXiv 2001.10883's code.

    Args:
        mean: ``(N, Z)``.
        deviation: Standard deviation, positive, ``(N, Z)``.
        mask: 1 where pixels count and 0 elsewhere, ``(N, 1, H, W)``.
        reduction: ``pixels``: divided by the number of pixels that count, so that with a log-likelihood averaged over
            the same pixels and weight 1 it makes the negative evidence lower bound per pixel. ``sum``: over batch and
            code, as published; beside an error of a mean pixel it leaves the code no content.

    Returns:
        Scalar, in nats.
    """
    divergence = kld_score(mean, deviation).sum()
    return divergence / mask.sum().clamp(min=1) if reduction == "pixels" else divergence


def warmed_up(beta: float, epoch: int, epochs: int) -> float:
    """Weight of the divergence, raised along a line over the first epochs, so that codes get content.

    It is ``beta`` from the last epoch of the warm-up on. Source: Bowman et al. 2016 (1511.06349), section 3.1.
    """
    return beta * min(1.0, (epoch + 1) / epochs) if epochs else beta


ACTIVE = 0.01
"""Variance over images from which on the mean of a unit counts as active (Burda et al. 2016, section 4.1)."""


class ActiveUnits:
    """Counts units of a code whose mean differs between images: ``Var_x(E[z | x]) > 0.01``.

    The variance is gathered batch by batch (Chan et al. 1979), so that no codes are kept. Source: Burda et al. 2016,
    "Importance weighted autoencoders" (1509.00519), section 4.1.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets all codes."""
        self.seen = 0
        self.mean = torch.zeros(())
        self.squares = torch.zeros(())

    @torch.no_grad()
    def update(self, means: Tensor) -> None:
        """Adds means of the codes of a batch, ``(N, Z)``."""
        means = means.float()
        count, mean = len(means), means.mean(0)
        squares = (means - mean).square().sum(0)
        total = self.seen + count
        difference = mean - self.mean.to(mean.device)
        self.squares = self.squares.to(mean.device) + squares + difference.square() * (self.seen * count / total)
        self.mean = mean - difference * (self.seen / total)
        self.seen = total

    def count(self) -> int:
        """Number of active units; 0 before any code."""
        return int((self.squares / max(self.seen, 1) > ACTIVE).sum())
