"""What the models that are one autoencoder with a short code share: how it scores, and how it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from anomalib.data import ImageBatch
from torch import Tensor, nn, optim

from anomalib_xray.components.fc_autoencoder import FcAutoencoder, Made, fc_autoencoder_loss, squared_error
from anomalib_xray.components.radiograph_model import RadiographModel
from anomalib_xray.components.sagan import to_tanh_range, to_unit_range
from anomalib_xray.scores import ReconstructionScorer, ScoredBatch, error_scores, foreground

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule
else:
    AnomalibModule = object

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

    def forward(self, batch: Tensor) -> Made | ScoredBatch:
        """Reconstructs in training, scores in evaluation.

        Args:
            batch: Pre-processed images with equal channels, ``(N, 3, S, S)`` in [0, 1].

        Returns:
            What the network makes in training, scores and map in evaluation.
        """
        image = batch.mean(1, keepdim=True)
        made: Made = self.network(to_tanh_range(image))
        if self.training:
            return made
        reconstruction = to_unit_range(made.image)
        if made.log_variance is None:
            scored: ScoredBatch = self.scorer(image, reconstruction, self.reconstruct)
            return scored
        error, mask = squared_error(made, to_tanh_range(image)), foreground(image)
        scored = self.scorer(
            image, reconstruction, self.reconstruct, error_scores({"rec": error}, mask, self.scorer.top_k)
        )
        if self.scorer.score not in WEIGHTED_SCORES:
            return scored
        return scored._replace(anomaly_map=self.scorer.anomaly_map(error, mask))


class FcAutoencoderModel(RadiographModel, AnomalibModule):
    """Mixin of a plugin that is one autoencoder: ``class MemAe(FcAutoencoderModel, AnomalibModule)``.

    The plugin's constructor builds ``self.model``, and has the arguments ``masked``, ``learning_rate``, ``betas`` and
    ``schedule`` besides those of :class:`RadiographModel`.
    """

    model: ScoredAutoencoder

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:  # noqa: ANN401
        """Lowers the loss of the network's kind."""
        image = self.grey(batch)
        mask = foreground(image) if self.hparams["masked"] else torch.ones_like(image)
        weight = self.hparams.get("entropy_weight", 0.0)
        loss = fc_autoencoder_loss(self.model(batch.image), to_tanh_range(image), mask, weight)
        self.log_losses({"loss": loss}, len(image))
        return loss

    def pictures(self, image: Tensor) -> dict[str, Tensor]:
        """Images above their reconstructions."""
        return self.reconstruction_rows(image, self.model.reconstruct(image).clamp(0, 1))

    def configure_optimizers(self) -> Any:  # noqa: ANN401  # Lightning's union of forms
        """Adam, with the schedule of the settings."""
        rate, betas = self.hparams["learning_rate"], tuple(self.hparams["betas"])
        return self.with_schedule(optim.Adam(self.parameters(), lr=rate, betas=betas))
