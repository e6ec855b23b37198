"""The BiGAN as one module: its networks and their scores."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from anomalib_xray.networks.adversarial import AdversarialLoss, moving_average
from anomalib_xray.networks.gan_network import TrunkGan
from anomalib_xray.networks.layers import ProductConv2d
from anomalib_xray.networks.sagan import (
    SLOPE,
    SMALLEST,
    Generator,
    Trunk,
    maybe_spectral,
    to_unit_range,
)
from anomalib_xray.scores import (
    EXTRA_SCORES,
    FEATURE_SCORES,
    PATCH_SCORES,
    RECONSTRUCTION_SCORES,
    ReconstructionScorer,
    anogan_score,
    discriminator_difference,
    discriminator_score,
    feature_matching,
    foreground,
    masked_mean,
)

IMAGE_SHARE, CODE_SHARE, JOINT_SHARE = 16, 8, 16
"""Units of the discriminator's layers in multiples of the width: 1024, 512 and 1024 as published."""


class Encoder(nn.Module):
    """Images ``(N, 1, S, S)`` to unbounded codes ``(N, Z)``, by a downward path and a convolution."""

    def __init__(self, trunk: Trunk, latent_size: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = ProductConv2d(trunk.channels, latent_size, SMALLEST)

    def forward(self, image: Tensor) -> Tensor:
        """Encodes images."""
        return self.code_of(self.trunk(image))

    def code_of(self, features: Tensor) -> Tensor:
        """Codes ``(N, Z)`` of the features of the trunk's last level."""
        code: Tensor = self.head(features).flatten(1)
        return code


class PairDiscriminator(nn.Module):
    """Tells an image with its code from a code with its image.

    No layer of it mixes the pairs of a batch.

    Args:
        trunk: Downward path of the image branch.
        width: Channels of the trunk's first level, which scale the other layers.
        latent_size: Length Z of the codes.
        spectral: Whether all layers but the last are spectrally normalised.
    """

    def __init__(self, trunk: Trunk, width: int, latent_size: int, spectral: bool) -> None:
        super().__init__()
        image, code, joint = (share * width for share in (IMAGE_SHARE, CODE_SHARE, JOINT_SHARE))
        self.trunk = trunk
        self.image_head = nn.Sequential(
            maybe_spectral(ProductConv2d(trunk.channels, image, SMALLEST), spectral), nn.Flatten(), nn.LeakyReLU(SLOPE)
        )
        self.code_branch = nn.Sequential(*_dense([latent_size, code, code], spectral))
        self.joint = nn.Sequential(*_dense([image + code, joint, joint], spectral), nn.Linear(joint, 1), nn.Flatten(0))

    def forward(self, image: Tensor, code: Tensor) -> Tensor:
        """Logits ``(N,)`` of images ``(N, 1, S, S)`` in (-1, 1) and codes ``(N, Z)``, higher = an encoder's code."""
        return self.judge(self.trunk(image), code)

    def judge(self, features: Tensor, code: Tensor) -> Tensor:
        """Judges pairs by the features of the trunk's last level, ``(N, C, 4, 4)``; see :meth:`forward`."""
        logits: Tensor = self.joint(torch.cat([self.image_head(features), self.code_branch(code)], dim=1))
        return logits


def _dense(units: list[int], spectral: bool) -> list[nn.Module]:
    """Fully connected layers with leaky ReLU, of these numbers of units."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(units):
        layers += [maybe_spectral(nn.Linear(inputs, outputs), spectral), nn.LeakyReLU(SLOPE)]
    return layers


SCORES = (
    *RECONSTRUCTION_SCORES,
    "discriminator",
    "discriminator_difference",
    "feature_matching",
    "feature_matching_signed",
    "encoder_feature_matching",
    "latent_distance",
    "bigan",
    *FEATURE_SCORES,
    *PATCH_SCORES,
    *EXTRA_SCORES,
)
"""Scores that the model can compute."""


class BiganModel(TrunkGan):
    """Encoder, generator and the discriminator of pairs, from the settings of ``Bigan``.

    As published, the width is 64, attention is not pooled, and the code has 100 numbers in the code and 200 in the
    paper.
    """

    discriminator: PairDiscriminator

    def __init__(
        self,
        image_size: int = 128,
        width: int = 64,
        latent_size: int = 100,
        attention: bool = True,
        attention_pooling: int = 2,
        spectral_norm: bool = True,
        ema_decay: float = 0.0,
        feature_weight: float = 0.1,
        scorer: ReconstructionScorer | None = None,
        anomaly_map: str = "reconstruction",
        adversarial_loss: AdversarialLoss = "hinge",
        references: int = 16384,
        patches: bool = False,
    ) -> None:
        super().__init__(image_size, width, references, adversarial_loss, scorer, anomaly_map, patches)

        def trunk() -> Trunk:
            return Trunk(image_size, width, attention, attention_pooling, spectral_norm)

        self.encoder = Encoder(trunk(), latent_size)
        self.generator = Generator(image_size, width, latent_size, attention, attention_pooling, spectral_norm)
        self.discriminator = PairDiscriminator(trunk(), width, latent_size, spectral_norm)
        self.average = moving_average(self.generator, ema_decay)
        self.encoder_average = moving_average(self.encoder, ema_decay)
        self.latent_size = latent_size
        self.feature_weight = feature_weight

    def encoder_in_use(self) -> Any:
        """The encoder's moving average, if it has one."""
        encoder: Any = self.encoder if self.encoder_average is None else self.encoder_average.module
        return encoder

    def discriminator_logit(self, image: Tensor) -> Tensor:
        """Logits of images in (-1, 1) with their codes, which count as given; higher = an image with its code."""
        logits: Tensor = self.discriminator(image, self.encode(image).detach())
        return logits

    def judgements(
        self, image: Tensor, generated: Tensor, code: Tensor, features: list[Tensor], of_generated: list[Tensor]
    ) -> dict[str, Tensor]:
        """Scores of the discriminator, and the one of the features of its image branch and the absolute error."""
        pair, generated_pair = (self.discriminator.judge(some[-1], code) for some in (features, of_generated))
        residual = masked_mean((image - to_unit_range(generated)).abs(), foreground(image))
        matching = feature_matching(features, of_generated)
        return {
            "discriminator": discriminator_score(pair, has_probabilities=self.has_probabilities),
            "discriminator_difference": discriminator_difference(pair, generated_pair, self.has_probabilities),
            "bigan": anogan_score(residual, matching, self.feature_weight),
        }
