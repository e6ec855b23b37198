"""The α-GAN as one module: its players together, and how they score."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anomalib_xray.networks.adversarial import AdversarialLoss, moving_average
from anomalib_xray.networks.grad_cam import GRAD_CAM, check_map, grad_cam_map
from anomalib_xray.networks.latent import GaussianHead, Latent
from anomalib_xray.networks.minibatch_discrimination import MinibatchDiscrimination
from anomalib_xray.networks.sagan import SMALLEST, Generator, Trunk, maybe_spectral, to_tanh_range, to_unit_range
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
from anomalib_xray.training.gan_model import generator_of

NARROW = -4.0
"""Log-variance of untrained codes: with a wide one all codes look alike to the generator, and it learns nothing from
them."""

MATCHED_LEVELS = 2
"""Number of levels of the discriminator, from the last one up, whose features are matched."""


class Encoder(nn.Module):
    """Image to the mean and the standard deviation of its code.

    Args:
        trunk: Downward path.
        latent_size: Length Z of the code.
        latent: See :class:`~anomalib_xray.components.GaussianHead`.
    """

    def __init__(self, trunk: Trunk, latent_size: int, latent: Latent) -> None:
        super().__init__()
        self.trunk = trunk
        mean, spread = (nn.Conv2d(trunk.channels, latent_size, SMALLEST) for _ in range(2))
        if latent == "linear":
            assert spread.bias is not None  # a convolution's default
            nn.init.constant_(spread.bias, NARROW)
        self.head = GaussianHead(mean, spread, latent)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes ``(N, 1, S, S)`` to mean and standard deviation, each ``(N, Z)``."""
        mean, deviation = self.head(self.trunk(image))
        return mean, deviation


class Discriminator(nn.Module):
    """Tells real images from generated ones.

    Args:
        trunk: Downward path.
        minibatch_discrimination: Whether images are compared with others of their batch.
        spectral: Whether the last convolution is spectrally normalised.
    """

    kernels = 64

    def __init__(self, trunk: Trunk, minibatch_discrimination: bool, spectral: bool) -> None:
        super().__init__()
        self.trunk = trunk
        inputs = trunk.channels * SMALLEST**2
        self.minibatch = MinibatchDiscrimination(inputs, self.kernels) if minibatch_discrimination else None
        closeness = self.kernels // SMALLEST**2 if minibatch_discrimination else 0
        self.head = maybe_spectral(nn.Conv2d(trunk.channels + closeness, 1, SMALLEST), spectral)

    def forward(self, image: Tensor, remember: bool = False) -> Tensor:
        """Judges images.

        Args:
            image: ``(N, 1, S, S)`` in (-1, 1).
            remember: Whether the images are real training images whose features evaluation may compare with.

        Returns:
            Logits, higher = more real, ``(N,)``.
        """
        return self.judge(self.trunk(image), remember)

    def judge(self, features: Tensor, remember: bool = False) -> Tensor:
        """Judges the features of the trunk's last level, ``(N, C, 4, 4)``; see :meth:`forward`."""
        if self.minibatch is not None:
            flat = features.flatten(1)
            if remember:
                self.minibatch.remember(flat.detach())
            closeness = self.minibatch(flat).unflatten(1, (-1, SMALLEST, SMALLEST))
            features = torch.cat([features, closeness], dim=1)
        logits: Tensor = self.head(features).flatten()
        return logits

    def matched_features(self, image: Tensor) -> list[Tensor]:
        """The features that are matched: those of the trunk's last two levels."""
        return self.trunk.features(image)[-MATCHED_LEVELS:]


class CodeDiscriminator(nn.Sequential):
    """Tells codes drawn from the normal distribution, ``(N, Z)``, from an encoder's: logits ``(N,)``.

    Args:
        latent_size: Length Z of the code; the hidden layers have Z/2 and Z/4 units.
        spectral: Whether all layers are spectrally normalised. Without it the encoder, whose loss has no bound, may
            drive its codes and the logits ever further, and forgets the image over it.
    """

    def __init__(self, latent_size: int, spectral: bool = False) -> None:
        half, quarter = latent_size // 2, latent_size // 4
        super().__init__(
            maybe_spectral(nn.Linear(latent_size, half), spectral),
            nn.LeakyReLU(0.1),
            maybe_spectral(nn.Linear(half, quarter), spectral),
            nn.LeakyReLU(0.1),
            maybe_spectral(nn.Linear(quarter, 1), spectral),
            nn.Flatten(0),
        )


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
