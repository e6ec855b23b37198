"""Bases of the torch modules of generative adversarial models."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.optim.swa_utils import AveragedModel

from anomalib_xray.networks.adversarial import AdversarialLoss
from anomalib_xray.networks.feature_memory import FeatureMemory
from anomalib_xray.networks.grad_cam import GRAD_CAM, check_map, grad_cam_map
from anomalib_xray.networks.patch_discriminator import PatchDiscriminator
from anomalib_xray.networks.places import at_pixels
from anomalib_xray.networks.sagan import level_channels, to_tanh_range, to_unit_range
from anomalib_xray.scores import (
    FEATURE_DISTANCE,
    PATCH_DISCRIMINATOR,
    ReconstructionScorer,
    ScoredBatch,
    feature_matching,
    feature_matching_signed,
    foreground,
    latent_distance,
)

MAPS = ("reconstruction", GRAD_CAM)
"""Anomaly maps of a model that reconstructs: the error, or Grad-CAM of the discriminator's logit."""

AT_A_TIME = 32
"""Images whose features are computed at a time to be stored."""

MATCHED_LEVELS = 2
"""Number of levels, from the last one up, whose features of an image and of its reconstruction are compared."""

COMPARED_SIDE = 16
"""Side of the feature map whose places are compared with stored ones: a place sees about a joint of a hand."""


class GanNetwork(nn.Module):
    """Base of a generator and a discriminator as one module.

    A subclass sets ``generator``, its moving average ``average`` or ``None``, and ``discriminator``. One that compares
    features with stored ones also sets ``memory`` and says which (:meth:`compared_features`).

    Args:
        adversarial_loss: The discriminator's loss; outputs are log-odds unless it is ``wgan-gp``.
        anomaly_map: The chosen map.
        maps: Maps to choose from.

    Raises:
        XrayError: Another map.
    """

    generator: nn.Module
    discriminator: Any
    average: AveragedModel | None
    memory: FeatureMemory | None

    def __init__(
        self, adversarial_loss: AdversarialLoss, anomaly_map: str = "reconstruction", maps: Sequence[str] = MAPS
    ) -> None:
        super().__init__()
        check_map(anomaly_map, maps)
        self.memory = None
        self.map = anomaly_map
        self.has_probabilities = adversarial_loss != "wgan-gp"

    def generate(self, code: Tensor) -> Tensor:
        """Images ``(N, 1, S, S)`` in (-1, 1) of codes ``(N, Z)``, by the generator that evaluation uses."""
        image: Tensor = (self.generator if self.average is None else self.average.module)(code)
        return image

    def discriminator_logit(self, image: Tensor) -> Tensor:
        """Logits of images ``(N, 1, S, S)`` in (-1, 1), higher = more real, ``(N,)``."""
        logits: Tensor = self.discriminator(image)
        return logits

    def compared_features(self, image: Tensor) -> Tensor:
        """Features ``(N, C, h, w)`` that are compared with stored ones, of images ``(N, 1, S, S)`` in (-1, 1)."""
        raise NotImplementedError

    @torch.no_grad()
    def remember(self, image: Tensor, generator: torch.Generator) -> None:
        """Stores features of training images ``(N, 1, S, S)`` in [0, 1], as the discriminator now computes them.

        ``generator`` chooses among them. Without a memory nothing is stored.
        """
        if self.memory is not None:
            features = [self.compared_features(to_tanh_range(part)) for part in torch.split(image, AT_A_TIME)]
            self.memory.store(torch.cat(features), foreground(image), generator)


class EncodingGan(GanNetwork):
    """Base of a GAN with an encoder, which scores the difference of an image and its reconstruction.

    A subclass says how it encodes (:meth:`encode`) and which further scores it has (:meth:`other_scores`). For
    Grad-CAM its discriminator has a :class:`~anomalib_xray.networks.sagan.Trunk`.

    Args:
        adversarial_loss: The discriminator's loss.
        scorer: Computes scores and map from the reconstruction; the default scorer if left out.
        anomaly_map: ``reconstruction`` or ``grad_cam``.
    """

    def __init__(
        self,
        adversarial_loss: AdversarialLoss,
        scorer: ReconstructionScorer | None,
        anomaly_map: str = "reconstruction",
    ) -> None:
        super().__init__(adversarial_loss, anomaly_map)
        self.scorer = scorer or ReconstructionScorer("mse_top_k", 0.03, 1.0)

    def encode(self, image: Tensor) -> Tensor:
        """Codes ``(N, Z)`` of images ``(N, 1, S, S)`` in [-1, 1], as evaluation encodes."""
        raise NotImplementedError

    def other_scores(self, image: Tensor, generated: Tensor, code: Tensor) -> dict[str, Tensor]:
        """Scores besides those of the reconstruction, of images in [0, 1], ``G(E(x))`` in (-1, 1) and ``E(x)``."""
        raise NotImplementedError

    def latent(self, image: Tensor) -> Tensor:
        """Codes ``(N, Z)`` of images ``(N, 1, S, S)`` in [0, 1], as evaluation encodes."""
        return self.encode(to_tanh_range(image))

    def reconstruct(self, image: Tensor) -> Tensor:
        """Encodes and generates as evaluation does, ``(N, 1, S, S)`` in [0, 1] to the same."""
        return to_unit_range(self.generate(self.latent(image)))

    def scored(self, image: Tensor) -> ScoredBatch:
        """Scores images ``(N, 1, S, S)`` in [0, 1] by their reconstructions."""
        code = self.latent(image)
        generated = self.generate(code)
        others = self.other_scores(image, generated, code)
        scored: ScoredBatch = self.scorer(image, to_unit_range(generated), self.reconstruct, others)
        return scored

    def forward(self, batch: Tensor) -> ScoredBatch:
        """Scores pre-processed images ``(N, 3, S, S)`` in [0, 1]; training drives the players one by one."""
        image = batch.mean(1, keepdim=True)
        scored = self.scored(image)
        if self.map != GRAD_CAM:
            return scored
        level = self.discriminator.trunk.levels[-1]
        evidence = grad_cam_map(self.discriminator_logit, level, to_tanh_range(image))
        return scored._replace(anomaly_map=self.scorer.anomaly_map(evidence, foreground(image)))


class TrunkGan(EncodingGan):
    """Base of a GAN whose encoder and discriminator go down a :class:`~anomalib_xray.networks.sagan.Trunk` each.

    It compares features of an image with those of its reconstruction, on both ways down, and the discriminator's with
    stored ones of training images. Sources: Zenati et al. 2018 (1802.06222); Akçay et al. 2018 (GANomaly, 1805.06725),
    whose second encoder is the encoder itself here; Roth et al. 2022 (2106.08265, PatchCore).

    A subclass sets the networks; its encoder has ``trunk`` and ``code_of``, which maps the features of the trunk's last
    level to codes. It adds what its discriminators say (:meth:`judgements`).

    With ``patches`` there is a discriminator of patches as well, of which ``best_patch_discriminator`` is what it was
    when it told other lesions best, and what scores.

    Args:
        image_size: Side S of the images.
        width: Channels of the trunks' first level.
        references: Number of stored features.
        adversarial_loss: The discriminator's loss.
        scorer: Computes scores and map; the default scorer if left out.
        anomaly_map: ``reconstruction``, which is the error or distance of the chosen score, or ``grad_cam``.
        patches: Whether it has a discriminator of patches.
    """

    encoder: Any
    best_auroc: Tensor

    def __init__(
        self,
        image_size: int,
        width: int,
        references: int,
        adversarial_loss: AdversarialLoss,
        scorer: ReconstructionScorer | None,
        anomaly_map: str = "reconstruction",
        patches: bool = False,
    ) -> None:
        super().__init__(adversarial_loss, scorer, anomaly_map)
        channels = level_channels(image_size, width)
        self.compared_level = next(
            level for level in range(len(channels)) if image_size // 2 ** (level + 1) <= COMPARED_SIDE
        )
        self.memory = FeatureMemory(channels[self.compared_level], references)
        self.patch_discriminator = PatchDiscriminator(image_size, width) if patches else None
        self.best_patch_discriminator = deepcopy(self.patch_discriminator)
        if self.best_patch_discriminator is not None:
            self.best_patch_discriminator.requires_grad_(False)
            self.register_buffer("best_auroc", torch.zeros(()))

    def encoder_in_use(self) -> Any:
        """The encoder that evaluation uses."""
        return self.encoder

    def encode(self, image: Tensor) -> Tensor:
        """Codes ``(N, Z)`` of images in [-1, 1], as evaluation encodes."""
        encoder = self.encoder_in_use()
        code: Tensor = encoder.code_of(encoder.trunk(image))
        return code

    def compared_features(self, image: Tensor) -> Tensor:
        """Features of the discriminator at 16 x 16 places, of images ``(N, 1, S, S)`` in (-1, 1)."""
        features: list[Tensor] = self.discriminator.trunk.features(image, self.compared_level + 1)
        return features[-1]

    def judgements(
        self, image: Tensor, generated: Tensor, code: Tensor, features: list[Tensor], of_generated: list[Tensor]
    ) -> dict[str, Tensor]:
        """Scores from what the discriminators say, and any others of the subclass.

        Args:
            image: ``(N, 1, S, S)`` in [0, 1].
            generated: Reconstructions G(E(x)), in (-1, 1).
            code: E(x), ``(N, Z)``.
            features: Features of the discriminator's matched levels, of the images.
            of_generated: The same of their reconstructions.
        """
        raise NotImplementedError

    def scored(self, image: Tensor) -> ScoredBatch:
        """Scores images ``(N, 1, S, S)`` in [0, 1]; each network's way down is gone once per image."""
        real, encoder, judge = to_tanh_range(image), self.encoder_in_use(), self.discriminator.trunk
        encoded = encoder.trunk.features(real)
        code = encoder.code_of(encoded[-1])
        generated = self.generate(code)
        encoded_again = encoder.trunk.features(generated)
        judged = judge.features(real)
        features, of_generated = judged[-MATCHED_LEVELS:], judge.features(generated)[-MATCHED_LEVELS:]
        others = {
            **self.judgements(image, generated, code, features, of_generated),
            "feature_matching": feature_matching(features, of_generated),
            "feature_matching_signed": feature_matching_signed(features, of_generated),
            "encoder_feature_matching": feature_matching(encoded[-MATCHED_LEVELS:], encoded_again[-MATCHED_LEVELS:]),
            "latent_distance": latent_distance(code, encoder.code_of(encoded_again[-1])),
        }
        errors = {}
        if self.memory is not None:
            errors[FEATURE_DISTANCE] = self.memory(judged[self.compared_level], foreground(image))
        if self.best_patch_discriminator is not None:
            errors[PATCH_DISCRIMINATOR] = patch_errors(self.best_patch_discriminator, image)
        scored: ScoredBatch = self.scorer(image, to_unit_range(generated), self.reconstruct, others, errors)
        return scored


def patch_errors(network: PatchDiscriminator, image: Tensor) -> Tensor:
    """How little a pixel of images ``(N, 1, S, S)`` in [0, 1] belongs there, ``-log(1 - p)``, ``(N, 1, S, S)``."""
    return at_pixels(softplus(network(to_tanh_range(image))), foreground(image))
