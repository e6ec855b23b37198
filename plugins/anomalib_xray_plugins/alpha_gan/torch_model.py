"""The α-GAN as one module: its players and their scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anomalib_xray.networks.adversarial import AdversarialLoss, moving_average
from anomalib_xray.networks.gan_network import TrunkGan
from anomalib_xray.networks.latent import GaussianHead, Latent
from anomalib_xray.networks.layers import ProductConv2d
from anomalib_xray.networks.minibatch_discrimination import MinibatchDiscrimination
from anomalib_xray.networks.sagan import SMALLEST, Generator, Trunk, maybe_spectral
from anomalib_xray.scores import (
    EXTRA_SCORES,
    FEATURE_SCORES,
    PATCH_SCORES,
    RECONSTRUCTION_SCORES,
    ReconstructionScorer,
    discriminator_difference,
    discriminator_score,
    mean_probability_score,
)

NARROW = -4.0
"""Log-variance of untrained codes: with a wide one all codes look alike to the generator, and it learns nothing from
them."""


class Encoder(nn.Module):
    """Images ``(N, 1, S, S)`` to the mean and the standard deviation of their codes, each ``(N, Z)``."""

    def __init__(self, trunk: Trunk, latent_size: int, latent: Latent) -> None:
        super().__init__()
        self.trunk = trunk
        mean, spread = (ProductConv2d(trunk.channels, latent_size, SMALLEST) for _ in range(2))
        if latent == "linear":
            assert spread.bias is not None  # a convolution's default
            nn.init.constant_(spread.bias, NARROW)
        self.head = GaussianHead(mean, spread, latent)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes images."""
        mean, deviation = self.head(self.trunk(image))
        return mean, deviation

    def code_of(self, features: Tensor) -> Tensor:
        """Mean codes ``(N, Z)`` of the features of the trunk's last level."""
        mean: Tensor = self.head(features)[0]
        return mean


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
        """Logits ``(N,)`` of images ``(N, 1, S, S)`` in (-1, 1), higher = more real.

        With ``remember`` they are real training images whose features evaluation may compare with.
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
    "encoder_feature_matching",
    "latent_distance",
    *FEATURE_SCORES,
    *PATCH_SCORES,
    *EXTRA_SCORES,
)
"""Scores that the model can compute."""


class AlphaGanModel(TrunkGan):
    """Encoder, generator, discriminator and code discriminator, from the settings of ``AlphaGan``.

    As published, the width is 64, the code has 100 numbers, and attention is not pooled.
    """

    discriminator: Discriminator

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
        references: int = 16384,
        patches: bool = False,
    ) -> None:
        super().__init__(image_size, width, references, adversarial_loss, scorer, anomaly_map, patches)

        def trunk() -> Trunk:
            return Trunk(image_size, width, attention, attention_pooling, spectral_norm)

        self.encoder = Encoder(trunk(), latent_size, latent)
        self.generator = Generator(image_size, width, latent_size, attention, attention_pooling, spectral_norm)
        self.discriminator = Discriminator(trunk(), minibatch_discrimination, spectral_norm)
        self.code_discriminator = CodeDiscriminator(latent_size, code_spectral_norm)
        self.average = moving_average(self.generator, ema_decay)
        self.latent_size = latent_size

    def judgements(
        self, image: Tensor, generated: Tensor, code: Tensor, features: list[Tensor], of_generated: list[Tensor]
    ) -> dict[str, Tensor]:
        """Scores of the two discriminators."""
        del image, generated
        judge, known = self.discriminator.judge, self.has_probabilities
        logit, of_code = judge(features[-1]), self.code_discriminator(code)
        return {
            "discriminator": discriminator_score(logit, has_probabilities=known),
            "code_discriminator": discriminator_score(of_code, has_probabilities=known),
            "discriminators_mean": discriminator_score(logit, of_code, has_probabilities=known),
            **({MEAN_PROBABILITY: mean_probability_score(logit, of_code)} if known else {}),
            "discriminator_difference": discriminator_difference(logit, judge(of_generated[-1]), known),
        }
