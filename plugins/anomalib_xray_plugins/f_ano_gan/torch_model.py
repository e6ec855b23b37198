"""The f-AnoGAN as one module: generator, critic and encoder, and their scores."""

from __future__ import annotations

from torch import Tensor

from anomalib_xray.networks.adversarial import AdversarialLoss, moving_average
from anomalib_xray.networks.gan_network import EncodingGan
from anomalib_xray.networks.sagan import to_tanh_range
from anomalib_xray.scores import (
    EXTRA_SCORES,
    RECONSTRUCTION_SCORES,
    ReconstructionScorer,
    anogan_score,
    discriminator_score,
    foreground,
    latent_distance,
    masked_mean,
)
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


class FAnoGanModel(EncodingGan):
    """Generator, critic and encoder, from the settings of ``FAnoGan``.

    As published, the width is 64, the code has 128 numbers, and features weigh 1.
    """

    discriminator: Critic

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
        super().__init__(adversarial_loss, scorer or ReconstructionScorer("anogan", 0.03, 1.0))
        self.encoder = Encoder(image_size, width, latent_size, latent, blocks)
        self.generator = make_generator(image_size, width, latent_size, blocks)
        self.discriminator = Critic(image_size, width, blocks)
        self.average = moving_average(self.generator, ema_decay)
        self.latent_size = latent_size
        self.feature_share = feature_weight / (1 + feature_weight)

    def encode(self, image: Tensor) -> Tensor:
        """Codes ``(N, Z)`` of images in [-1, 1]."""
        code: Tensor = self.encoder(image)
        return code

    def other_scores(self, image: Tensor, generated: Tensor, code: Tensor) -> dict[str, Tensor]:
        """The two terms of the encoder's loss per image, their sum, and scores of the critic and of the code."""
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
            "latent_distance": latent_distance(code, self.encode(generated)),
        }
