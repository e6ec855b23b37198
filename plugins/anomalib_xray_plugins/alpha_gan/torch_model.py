"""The α-GAN as one module: its players together, and how they score."""

from __future__ import annotations

from torch import Tensor, nn

from anomalib_xray.components import AdversarialLoss, Latent, generator_of, moving_average
from anomalib_xray.components.sagan import Generator, Trunk, to_tanh_range, to_unit_range
from anomalib_xray.explain.grad_cam import GRAD_CAM, check_map, grad_cam_map
from anomalib_xray.scores import (
    EXTRA_SCORES,
    RECONSTRUCTION_SCORES,
    ReconstructionScorer,
    ScoredBatch,
    discriminator_difference,
    discriminator_score,
    feature_matching,
    feature_matching_signed,
    foreground,
    latent_distance,
    mean_probability_score,
)
from anomalib_xray_plugins.alpha_gan.networks import CodeDiscriminator, Discriminator, Encoder

MEAN_PROBABILITY = "discriminators_mean_probability"
"""Score of the discriminators' probabilities, which a Wasserstein critic does not have."""

SCORES = (
    *RECONSTRUCTION_SCORES,
    "discriminator",
    "code_discriminator",
    "discriminators_mean",
    MEAN_PROBABILITY,
    "discriminator_difference",
    "feature_matching",
    "feature_matching_signed",
    "latent_distance",
    *EXTRA_SCORES,
)
"""Scores that the model can compute."""

MAPS = ("reconstruction", GRAD_CAM)
"""Anomaly maps that the model can give."""


class AlphaGanModel(nn.Module):
    """Encoder, generator, discriminator and code discriminator.

    Args:
        image_size: Side S of the images.
        width: Channels of the first level (64 as published).
        latent_size: Length Z of the code (100 in the published code).
        latent: See :class:`~anomalib_xray.components.GaussianHead`.
        attention: Whether there is self-attention.
        attention_pooling: Pooling of keys and values in self-attention (1 as published).
        spectral_norm: Whether convolutions are spectrally normalised.
        code_spectral_norm: Whether the code discriminator is spectrally normalised.
        minibatch_discrimination: Whether the discriminator compares images with others of their batch.
        ema_decay: Decay of the generator's moving average, 0 for none.
        scorer: Computes scores and map from the reconstruction; the default scorer if left out.
        anomaly_map: The map: the error of the ``reconstruction``, or ``grad_cam`` of the discriminator's logit.
        adversarial_loss: The discriminators' loss; with ``wgan-gp`` their outputs are no log-odds.

    Raises:
        XrayError: Another map.
    """

    def __init__(
        self,
        image_size: int = 128,
        width: int = 64,
        latent_size: int = 100,
        latent: Latent = "linear",
        attention: bool = True,
        attention_pooling: int = 2,
        spectral_norm: bool = True,
        code_spectral_norm: bool = True,
        minibatch_discrimination: bool = True,
        ema_decay: float = 0.0,
        scorer: ReconstructionScorer | None = None,
        anomaly_map: str = "reconstruction",
        adversarial_loss: AdversarialLoss = "hinge",
    ) -> None:
        super().__init__()
        check_map(anomaly_map, MAPS)

        def trunk() -> Trunk:
            return Trunk(image_size, width, attention, attention_pooling, spectral_norm)

        self.encoder = Encoder(trunk(), latent_size, latent)
        self.generator = Generator(image_size, width, latent_size, attention, attention_pooling, spectral_norm)
        self.discriminator = Discriminator(trunk(), minibatch_discrimination, spectral_norm)
        self.code_discriminator = CodeDiscriminator(latent_size, code_spectral_norm)
        self.average = moving_average(self.generator, ema_decay)
        self.latent_size = latent_size
        self.scorer = scorer or ReconstructionScorer("mse_top_k", 0.03, 1.0)
        self.map = anomaly_map
        self.has_probabilities = adversarial_loss != "wgan-gp"

    def latent(self, image: Tensor) -> Tensor:
        """Mean codes ``(N, Z)`` of images ``(N, 1, S, S)`` in [0, 1]."""
        mean: Tensor = self.encoder(to_tanh_range(image))[0]
        return mean

    def reconstruct(self, image: Tensor) -> Tensor:
        """Encodes and generates as evaluation does, ``(N, 1, S, S)`` in [0, 1] to the same."""
        mean, _ = self.encoder(to_tanh_range(image))
        return to_unit_range(generator_of(self)(mean))

    def forward(self, batch: Tensor) -> ScoredBatch:
        """Scores images; training drives the players one by one.

        Args:
            batch: Pre-processed images with equal channels, ``(N, 3, S, S)`` in [0, 1].

        Returns:
            Scores and map.
        """
        image = batch.mean(1, keepdim=True)
        mean, _ = self.encoder(to_tanh_range(image))
        generated = generator_of(self)(mean)
        mean_again, _ = self.encoder(generated)
        scored: ScoredBatch = self.scorer(
            image,
            to_unit_range(generated),
            self.reconstruct,
            {
                **self._discriminator_scores(image, generated, mean),
                "latent_distance": latent_distance(mean, mean_again),
            },
        )
        if self.map == GRAD_CAM:
            evidence = grad_cam_map(self.discriminator_logit, self.discriminator.trunk.levels[-1], to_tanh_range(image))
            return scored._replace(anomaly_map=self.scorer.anomaly_map(evidence, foreground(image)))
        return scored

    def discriminator_logit(self, image: Tensor) -> Tensor:
        """What the discriminator thinks of images ``(N, 1, S, S)`` in (-1, 1): logits, higher = more real, ``(N,)``."""
        logits: Tensor = self.discriminator(image)
        return logits

    def _discriminator_scores(self, image: Tensor, generated: Tensor, code: Tensor) -> dict[str, Tensor]:
        """Scores of the two discriminators and of the features of one."""
        features = self.discriminator.matched_features(to_tanh_range(image))
        generated_features = self.discriminator.matched_features(generated)
        of_image, of_code = self.discriminator.judge(features[-1]), self.code_discriminator(code)
        of_generated = self.discriminator.judge(generated_features[-1])
        known = self.has_probabilities
        return {
            "discriminator": discriminator_score(of_image, has_probabilities=known),
            "code_discriminator": discriminator_score(of_code, has_probabilities=known),
            "discriminators_mean": discriminator_score(of_image, of_code, has_probabilities=known),
            **({MEAN_PROBABILITY: mean_probability_score(of_image, of_code)} if known else {}),
            "discriminator_difference": discriminator_difference(of_image, of_generated, known),
            "feature_matching": feature_matching(features, generated_features),
            "feature_matching_signed": feature_matching_signed(features, generated_features),
        }
