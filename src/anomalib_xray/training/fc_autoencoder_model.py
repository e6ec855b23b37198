"""Models that are one autoencoder with a short code: their torch module and their training."""

from __future__ import annotations

from typing import Any, Literal

import torch
from anomalib.data import ImageBatch
from torch import Tensor, nn

from anomalib_xray.networks.fc_autoencoder import FcAutoencoder, Reconstruction, fc_autoencoder_loss, squared_error
from anomalib_xray.networks.memory import Memory
from anomalib_xray.networks.sagan import to_tanh_range, to_unit_range
from anomalib_xray.scores import (
    EXTRA_SCORES,
    RECONSTRUCTION_SCORES,
    ReconstructionScorer,
    ScoredBatch,
    error_scores,
    foreground,
)
from anomalib_xray.training.reconstruction_model import ReconstructionModel
from anomalib_xray.training.trained_model import TrainedModel

WEIGHTED_SCORES = ("rec", "rec_top_k")
"""Scores of the squared error over the predicted variance."""


class ScoredAutoencoder(nn.Module):
    """One autoencoder as anomalib's torch module.

    With a predicted variance there are also the scores ``rec`` and ``rec_top_k`` of the squared error over it.

    Args:
        network: The autoencoder.
        scorer: Computes scores and map from the reconstruction; the default scorer if left out.
    """

    def __init__(self, network: FcAutoencoder, scorer: ReconstructionScorer | None = None) -> None:
        super().__init__()
        self.network = network
        self.scorer = scorer or ReconstructionScorer("mse_top_k", 0.03, 1.0)

    def latent(self, image: Tensor) -> Tensor:
        """Codes ``(N, Z)`` of images ``(N, 1, S, S)`` in [0, 1], before a memory replaces them."""
        code: Tensor = self.network.encoder(to_tanh_range(image))
        return code

    def reconstruct(self, image: Tensor) -> Tensor:
        """Encodes and decodes ``(N, 1, S, S)`` in [0, 1] to the same scale, which a linear output may leave."""
        return to_unit_range(self.network(to_tanh_range(image)).image)

    def forward(self, batch: Tensor) -> Reconstruction | ScoredBatch:
        """Reconstructs in training, scores in evaluation, pre-processed images ``(N, 3, S, S)`` in [0, 1]."""
        image = batch.mean(1, keepdim=True)
        made: Reconstruction = self.network(to_tanh_range(image))
        if self.training:
            return made
        reconstruction = to_unit_range(made.image)
        if made.log_variance is None:
            scored: ScoredBatch = self.scorer(image, reconstruction, self.reconstruct)
            return scored
        error, mask = squared_error(made, to_tanh_range(image)), foreground(image)
        more = error_scores({"rec": error}, mask, self.scorer.top_k)
        scored = self.scorer(image, reconstruction, self.reconstruct, more)
        if self.scorer.score not in WEIGHTED_SCORES:
            return scored
        return scored._replace(anomaly_map=self.scorer.anomaly_map(error, mask))


class FcAutoencoderModel(ReconstructionModel, TrainedModel):
    """Mixin of a plugin that is one autoencoder: ``class MemAe(FcAutoencoderModel, AnomalibModule)``.

    The plugin's constructor calls :meth:`build` at its end.

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        width: Channels of the first level; they double up to four times as many.
        hidden: Units of the hidden fully connected layers.
        latent_size: Length of the code.
        masked: Whether the loss counts the foreground only; not as published.
        score: Score that becomes the predicted score: ``mse``, ``l1``, ``smooth_l1``, ``ssim`` or ``gradient``, each
            also with ``_top_k``.
        learning_rate: Learning rate of Adam.
        betas: Coefficients of Adam.
    """

    model: ScoredAutoencoder
    scores = (*RECONSTRUCTION_SCORES, *EXTRA_SCORES)

    entropy_weight = 0.0
    """Weight of the addressing's entropy in the loss, of a plugin with a memory."""

    def __init__(
        self,
        image_size: int = 64,
        augmentation: Literal["default", "advanced"] | None = None,
        width: int = 16,
        hidden: int = 2048,
        latent_size: int = 16,
        masked: bool = True,
        score: str = "mse_top_k",
        learning_rate: float = 5e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        **settings: Any,
    ) -> None:
        super().__init__(
            image_size=image_size, augmentation=augmentation, score=score, learning_rate=learning_rate, **settings
        )
        self.width, self.hidden, self.latent_size = width, hidden, latent_size
        self.masked, self.betas = masked, betas

    def build(self, uncertainty: bool = False, memory: Memory | None = None) -> None:
        """Builds ``self.model``; arguments as those of :class:`FcAutoencoder`."""
        network = FcAutoencoder(self.image_size, self.width, self.hidden, self.latent_size, uncertainty, memory)
        self.model = ScoredAutoencoder(network, self.make_scorer())

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:
        """Lowers the loss of the network's kind."""
        image = self.grey(batch)
        mask = foreground(image) if self.masked else torch.ones_like(image)
        loss = fc_autoencoder_loss(self.model(batch.image), to_tanh_range(image), mask, self.entropy_weight)
        self.log_losses({"loss": loss}, len(image))
        return loss
