"""Bases of the torch modules of generative adversarial models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from anomalib_xray.networks.adversarial import AdversarialLoss
from anomalib_xray.networks.grad_cam import GRAD_CAM, check_map, grad_cam_map
from anomalib_xray.networks.sagan import to_tanh_range, to_unit_range
from anomalib_xray.scores import ReconstructionScorer, ScoredBatch, foreground

MAPS = ("reconstruction", GRAD_CAM)
"""Anomaly maps of a model that reconstructs: the error, or Grad-CAM of the discriminator's logit."""


class GanNetwork(nn.Module):
    """Base of a generator and a discriminator as one module.

    A subclass sets ``generator``, its moving average ``average`` or ``None``, and ``discriminator``.

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

    def __init__(
        self, adversarial_loss: AdversarialLoss, anomaly_map: str = "reconstruction", maps: Sequence[str] = MAPS
    ) -> None:
        super().__init__()
        check_map(anomaly_map, maps)
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

    def forward(self, batch: Tensor) -> ScoredBatch:
        """Scores pre-processed images ``(N, 3, S, S)`` in [0, 1]; training drives the players one by one."""
        image = batch.mean(1, keepdim=True)
        code = self.latent(image)
        generated = self.generate(code)
        others = self.other_scores(image, generated, code)
        scored: ScoredBatch = self.scorer(image, to_unit_range(generated), self.reconstruct, others)
        if self.map != GRAD_CAM:
            return scored
        level = self.discriminator.trunk.levels[-1]
        evidence = grad_cam_map(self.discriminator_logit, level, to_tanh_range(image))
        return scored._replace(anomaly_map=self.scorer.anomaly_map(evidence, foreground(image)))
