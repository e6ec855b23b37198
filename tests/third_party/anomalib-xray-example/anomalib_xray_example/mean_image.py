"""Distance to the mean of the training images."""

from __future__ import annotations

from typing import Any, Literal

import torch
from anomalib.data import ImageBatch
from anomalib.models import AnomalibModule
from torch import Tensor, nn

from anomalib_xray.networks.losses import masked_mse_loss
from anomalib_xray.scores import (
    RECONSTRUCTION_SCORES,
    ScoredBatch,
    SmoothedErrorMap,
    foreground,
    reconstruction_scores,
)
from anomalib_xray.training.radiograph_model import RadiographModel


class MeanImageNetwork(nn.Module):
    """Keeps the sum of the images that it was shown, and compares others with their mean.

    Args:
        image_size: Side S of the images.
        score: Name of the score that becomes the predicted score.
        top_k: Pixels of the top-k scores.
    """

    total: Tensor
    count: Tensor

    def __init__(self, image_size: int, score: str, top_k: float) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(1, 1, image_size, image_size))
        self.register_buffer("count", torch.zeros(()))
        self.score = score
        self.top_k = top_k
        self.anomaly_map = SmoothedErrorMap()

    def remember(self, image: Tensor) -> None:
        """Adds images ``(N, 1, S, S)`` to the sum."""
        self.total += image.sum(0, keepdim=True)
        self.count += len(image)

    def mean(self, image: Tensor) -> Tensor:
        """The mean image for each of N images, ``(N, 1, S, S)``."""
        return (self.total / self.count.clamp(min=1)).expand_as(image)

    def forward(self, batch: Tensor) -> ScoredBatch:
        """Scores pre-processed images ``(N, 3, S, S)``."""
        image = batch.mean(1, keepdim=True)
        mean, mask = self.mean(image), foreground(image)
        scores = reconstruction_scores(image, mean, mask, self.top_k)
        return ScoredBatch.of(scores, self.score, self.anomaly_map((image - mean).square(), mask))


class MeanImage(RadiographModel, AnomalibModule):
    """Distance to the mean of the training images; one epoch is all that it needs.

    Args:
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        score: Score that becomes the predicted score: ``mse``, ``mse_top_k``, ``l1`` or ``l1_top_k``.
        top_k: Pixels of the top-k scores: a number, or a fraction of the foreground if below 1.
    """

    scores = RECONSTRUCTION_SCORES

    def __init__(
        self,
        augmentation: Literal["default", "advanced"] | None = None,
        score: str = "mse",
        top_k: float = 0.03,
        **settings: Any,
    ) -> None:
        super().__init__(augmentation=augmentation, score=score, **settings)
        self.model: MeanImageNetwork = MeanImageNetwork(self.image_size, score, top_k)

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:  # lightning passes the batch's index
        """Logs the distance to the mean so far, then adds the images to it."""
        image = self.grey(batch)
        self.log_losses({"loss": masked_mse_loss(self.model.mean(image), image, foreground(image))}, len(image))
        self.model.remember(image)
        # There is nothing to optimise, but lightning saves a checkpoint only after it has counted a step.
        return torch.zeros((), device=self.device, requires_grad=True)

    def configure_optimizers(self) -> None:
        """None."""
