"""The f-AnoGAN as one module: generator, critic and encoder together, and how they score."""

from __future__ import annotations

from torch import Tensor, nn

from anomalib_xray.networks.adversarial import AdversarialLoss, moving_average
from anomalib_xray.networks.sagan import to_tanh_range, to_unit_range
from anomalib_xray.scores import (
    EXTRA_SCORES,
    RECONSTRUCTION_SCORES,
    ReconstructionScorer,
    ScoredBatch,
    anogan_score,
    discriminator_score,
    foreground,
    latent_distance,
    masked_mean,
)
from anomalib_xray.training.gan_model import generator_of
from anomalib_xray_plugins.f_ano_gan.networks import Blocks, Code, Critic, Encoder, make_generator

SCORES = (
    *RECONSTRUCTION_SCORES,
    "residual",
    "feature",
    "anogan",
    "latent_distance",
    "discriminator",
    *EXTRA_SCORES,
)
"""Scores that the model can compute."""


class FAnoGanModel(nn.Module):
    """Generator, critic and encoder.

    Args:
        image_size: Side S of the images.
        width: Channels of the first level (64 as published).
        latent_size: Length Z of the code (128 as published).
        latent: See :class:`~anomalib_xray_plugins.f_ano_gan.networks.Encoder`.
        blocks: See :class:`~anomalib_xray_plugins.f_ano_gan.networks.Trunk`.
        feature_weight: Weight k of the features in the score (1 as published).
        adversarial_loss: The critic's loss; with ``wgan-gp`` its output is no log-odds.
        ema_decay: Decay of the generator's moving average, 0 for none.
        scorer: Computes scores and map from the reconstruction; the default scorer if left out.
    """

    def __init__(
        self,
        image_size: int = 64,
        width: int = 64,
        latent_size: int = 128,
        latent: Code = "linear",
        blocks: Blocks = "residual",
        feature_weight: float = 1.0,
        adversarial_loss: AdversarialLoss = "wgan-gp",
        ema_decay: float = 0.0,
        scorer: ReconstructionScorer | None = None,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(image_size, width, latent_size, latent, blocks)
        self.generator = make_generator(image_size, width, latent_size, blocks)
        self.discriminator = Critic(image_size, width, blocks)
        self.average = moving_average(self.generator, ema_decay)
        self.latent_size = latent_size
        self.feature_share = feature_weight / (1 + feature_weight)
        self.has_probabilities = adversarial_loss != "wgan-gp"
        self.scorer = scorer or ReconstructionScorer("anogan", 0.03, 1.0)

    def latent(self, image: Tensor) -> Tensor:
        """Codes ``(N, Z)`` of images ``(N, 1, S, S)`` in [0, 1]."""
        code: Tensor = self.encoder(to_tanh_range(image))
        return code

    def reconstruct(self, image: Tensor) -> Tensor:
        """Encodes and generates as evaluation does, ``(N, 1, S, S)`` in [0, 1] to the same."""
        return to_unit_range(generator_of(self)(self.encoder(to_tanh_range(image))))

    def forward(self, batch: Tensor) -> ScoredBatch:
        """Scores images; training drives the players one by one.

        Args:
            batch: Pre-processed images with equal channels, ``(N, 3, S, S)`` in [0, 1].

        Returns:
            Scores and map.
        """
        image = batch.mean(1, keepdim=True)
        code = self.encoder(to_tanh_range(image))
        generated = generator_of(self)(code)
        scored: ScoredBatch = self.scorer(
            image,
            to_unit_range(generated),
            self.reconstruct,
            {
                **self._critic_scores(image, generated),
                "latent_distance": latent_distance(code, self.encoder(generated)),
            },
        )
        return scored

    def discriminator_logit(self, image: Tensor) -> Tensor:
        """What the critic thinks of images ``(N, 1, S, S)`` in (-1, 1): higher = more real, ``(N,)``."""
        logits: Tensor = self.discriminator(image)
        return logits

    def _critic_scores(self, image: Tensor, generated: Tensor) -> dict[str, Tensor]:
        """The two terms of the encoder's loss, each image on its own, their sum, and what the critic thinks."""
        real = to_tanh_range(image)
        features = self.discriminator.features(real)
        residual = masked_mean((real - generated).square(), foreground(image))
        feature = (features - self.discriminator.features(generated)).square().mean(1)
        logit = self.discriminator.judge(features)
        return {
            "residual": residual,
            "feature": feature,
            "anogan": anogan_score(residual, feature, self.feature_share),
            "discriminator": discriminator_score(logit, has_probabilities=self.has_probabilities),
        }
