"""The α-GAN as one module: its players together, and how they score."""

from __future__ import annotations

from torch import Tensor, nn

from anomalib_xray.scores import (
    RECONSTRUCTION_SCORES,
    ScoredBatch,
    SmoothedErrorMap,
    discriminator_score,
    foreground,
    reconstruction_scores,
)
from anomalib_xray_plugins.alpha_gan.networks import CodeDiscriminator, Discriminator, Encoder, Generator, Latent

SCORES = (*RECONSTRUCTION_SCORES, "discriminator", "code_discriminator", "discriminators_mean")
"""Scores that the model computes."""


class AlphaGanModel(nn.Module):
    """Encoder, generator, discriminator and code discriminator.

    Args:
        image_size: Side S of the images.
        width: Channels of the first level (64 as published).
        latent_size: Length Z of the code (100 in the published code).
        latent: See :class:`~anomalib_xray_plugins.alpha_gan.networks.Encoder`.
        attention_pooling: Pooling of keys and values in self-attention (1 as published).
        score: Name of the score that becomes the predicted score.
        top_k: Pixels of the top-k scores: a number (200 as published) or, below 1, a fraction of the foreground.
        map_sigma: Smoothing of the anomaly map, in pixels of the network's input.
    """

    def __init__(
        self,
        image_size: int = 128,
        width: int = 64,
        latent_size: int = 100,
        latent: Latent = "linear",
        attention_pooling: int = 2,
        score: str = "mse_top_k",
        top_k: float = 0.03,
        map_sigma: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(image_size, width, latent_size, latent, attention_pooling)
        self.generator = Generator(image_size, width, latent_size, attention_pooling)
        self.discriminator = Discriminator(image_size, width, attention_pooling)
        self.code_discriminator = CodeDiscriminator(latent_size)
        self.latent_size = latent_size
        self.score = score
        self.top_k = top_k
        self.anomaly_map = SmoothedErrorMap(map_sigma)

    def forward(self, batch: Tensor) -> ScoredBatch:
        """Scores images; training drives the players one by one.

        Args:
            batch: Pre-processed images with equal channels, ``(N, 3, S, S)`` in [0, 1].

        Returns:
            Scores and map.
        """
        image = batch.mean(1, keepdim=True)
        mean, _ = self.encoder(to_tanh_range(image))
        reconstruction = to_unit_range(self.generator(mean))
        mask = foreground(image)
        scores = reconstruction_scores(image, reconstruction, mask, self.top_k)
        scores["discriminator"] = discriminator_score(self.discriminator(to_tanh_range(image)))
        scores["code_discriminator"] = discriminator_score(self.code_discriminator(mean))
        scores["discriminators_mean"] = (scores["discriminator"] + scores["code_discriminator"]) / 2
        return ScoredBatch.of(scores, self.score, self.anomaly_map((image - reconstruction).square(), mask))


def to_tanh_range(image: Tensor) -> Tensor:
    """[0, 1] to the generator's [-1, 1]."""
    return 2 * image - 1


def to_unit_range(image: Tensor) -> Tensor:
    """The generator's [-1, 1] to [0, 1]."""
    return (image + 1) / 2
