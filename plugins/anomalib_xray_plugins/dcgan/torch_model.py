"""The DCGAN as one module: its players together, and how its discriminator scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anomalib_xray.components import AdversarialLoss, evaluating, moving_average
from anomalib_xray.components.gan import AT_A_TIME
from anomalib_xray.components.sagan import to_tanh_range
from anomalib_xray.explain.grad_cam import GRAD_CAM, check_map, grad_cam_map
from anomalib_xray.scores import (
    ScoredBatch,
    SmoothedErrorMap,
    discriminator_score,
    error_scores,
    foreground,
)
from anomalib_xray_plugins.dcgan.feature_memory import FeatureMemory
from anomalib_xray_plugins.dcgan.networks import Discriminator, Generator, Norm

SCORES = ("discriminator", "feature_distance", "feature_distance_top_k")
"""Scores that the model can compute."""

MAPS = ("feature_distance", GRAD_CAM)
"""Anomaly maps that the model can give."""

LARGEST_MAP = 32
"""Side of the largest feature map whose features are compared with stored ones, a quarter of the image at most."""


class DcganModel(nn.Module):
    """Generator and discriminator.

    Args:
        image_size: Side S of the images.
        width: Channels of the generator's last level (16 as published).
        discriminator_width: Channels of the discriminator's first level (4 as published).
        latent_size: Length Z of the code (2048 as published).
        norm: Normalisation of the generator's levels: ``none`` (as published) or ``batch``.
        spectral_norm: Whether convolutions are spectrally normalised.
        minibatch_discrimination: Whether the discriminator compares images with others of their batch.
        ema_decay: Decay of the generator's moving average, 0 for none.
        references: Number of features of real training images that are stored.
        score: Name of the score that becomes the predicted score.
        top_k: See :func:`~anomalib_xray.scores.masked_top_k_mean`.
        map_sigma: Smoothing of the map, in pixels of the network's input.
        anomaly_map: The map: the ``feature_distance``, or ``grad_cam`` of the discriminator's logit.
        adversarial_loss: The discriminator's loss; with ``wgan-gp`` its output is no log-odds.

    Raises:
        XrayError: Another map.
    """

    def __init__(
        self,
        image_size: int = 512,
        width: int = 16,
        discriminator_width: int = 4,
        latent_size: int = 2048,
        norm: Norm = "none",
        spectral_norm: bool = True,
        minibatch_discrimination: bool = True,
        ema_decay: float = 0.0,
        references: int = 16384,
        score: str = "feature_distance_top_k",
        top_k: float = 0.03,
        map_sigma: float = 1.0,
        anomaly_map: str = "feature_distance",
        adversarial_loss: AdversarialLoss = "hinge",
    ) -> None:
        super().__init__()
        check_map(anomaly_map, MAPS)
        self.generator = Generator(image_size, width, latent_size, norm, spectral_norm)
        self.discriminator = Discriminator(image_size, discriminator_width, minibatch_discrimination, spectral_norm)
        self.average = moving_average(self.generator, ema_decay)
        sides = [image_size // 2 ** (level + 1) for level in range(len(self.discriminator.channels))]
        self.compared_level = next(
            level for level, side in enumerate(sides) if side <= min(image_size / 4, LARGEST_MAP)
        )
        self.memory = FeatureMemory(self.discriminator.channels[self.compared_level], references)
        self.score = score
        self.top_k = top_k
        self.anomaly_map = SmoothedErrorMap(map_sigma)
        self.map = anomaly_map
        self.has_probabilities = adversarial_loss != "wgan-gp"

    def forward(self, batch: Tensor) -> ScoredBatch:
        """Scores images; training drives the players one by one.

        Args:
            batch: Pre-processed images with equal channels, ``(N, 3, S, S)`` in [0, 1].

        Returns:
            Scores and map.
        """
        image = batch.mean(1, keepdim=True)
        mask = foreground(image)
        features = self.discriminator.features(to_tanh_range(image))
        distance = self.memory(features[self.compared_level], mask)
        logit = self.discriminator.judge(features[-1])
        scores = {
            "discriminator": discriminator_score(logit, has_probabilities=self.has_probabilities),
            **error_scores({"feature_distance": distance}, mask, self.top_k),
        }
        if self.map == GRAD_CAM:
            distance = grad_cam_map(self.discriminator_logit, self.discriminator.levels[-1], to_tanh_range(image))
        return ScoredBatch.of(scores, self.score, self.anomaly_map(distance, mask))

    def discriminator_logit(self, image: Tensor) -> Tensor:
        """What the discriminator thinks of images ``(N, 1, S, S)`` in (-1, 1): logits, higher = more real, ``(N,)``."""
        logits: Tensor = self.discriminator(image)
        return logits

    @torch.no_grad()
    def remember(self, image: Tensor, generator: torch.Generator) -> None:
        """Stores features of real training images, as the discriminator now sees them.

        Args:
            image: ``(N, 1, S, S)`` in [0, 1].
            generator: Chooses among the features, on the CPU.
        """
        network, levels = self.discriminator, self.compared_level + 1
        with evaluating(network):
            some = [network.features(to_tanh_range(part), levels)[-1] for part in torch.split(image, AT_A_TIME)]
        self.memory.store(torch.cat(some), foreground(image), generator)
