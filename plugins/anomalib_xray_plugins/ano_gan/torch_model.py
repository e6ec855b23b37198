"""The AnoGAN as one module: networks of a DCGAN, and scores of a search through its codes."""

from __future__ import annotations

import torch
from torch import Tensor

from anomalib_xray.networks.adversarial import AdversarialLoss, moving_average
from anomalib_xray.networks.gan_network import GanNetwork
from anomalib_xray.networks.sagan import to_tanh_range, to_unit_range
from anomalib_xray.scores import (
    RECONSTRUCTION_SCORES,
    ReconstructionScorer,
    ScoredBatch,
    discriminator_score,
    foreground,
)
from anomalib_xray_plugins.ano_gan.search import CodeSearch, Found, frozen
from anomalib_xray_plugins.dcgan.networks import Discriminator, Generator, Norm

SCORES = (*RECONSTRUCTION_SCORES, "residual", "feature", "anogan", "discriminator", "ssim", "ssim_top_k")
"""Scores that the model can compute. One from the image's gradient is not among them: the search hides it."""


class AnoGanModel(GanNetwork):
    """Generator and discriminator, and the search for the code that generates what resembles an image most.

    The arguments are settings of ``AnoGan``. The features that are compared are those of the discriminator's last
    level. A search starts from the code of zeros, then from others that are drawn once.
    """

    discriminator: Discriminator
    starts: Tensor

    def __init__(
        self,
        image_size: int = 64,
        width: int = 32,
        discriminator_width: int = 16,
        latent_size: int = 64,
        norm: Norm = "batch",
        spectral_norm: bool = True,
        minibatch_discrimination: bool = True,
        ema_decay: float = 0.0,
        search_steps: int = 100,
        search_learning_rate: float = 0.1,
        feature_weight: float = 0.1,
        restarts: int = 1,
        scorer: ReconstructionScorer | None = None,
        adversarial_loss: AdversarialLoss = "hinge",
    ) -> None:
        super().__init__(adversarial_loss)
        self.generator = Generator(image_size, width, latent_size, norm, spectral=False)
        self.discriminator = Discriminator(image_size, discriminator_width, minibatch_discrimination, spectral_norm)
        self.average = moving_average(self.generator, ema_decay)
        others = torch.randn(restarts - 1, latent_size)
        self.register_buffer("starts", torch.cat([torch.zeros(1, latent_size), others]))
        self.search_steps = search_steps
        self.search_learning_rate = search_learning_rate
        self.feature_weight = feature_weight
        self.scorer = scorer or ReconstructionScorer("mse_top_k", 0.03, 1.0)

    def forward(self, batch: Tensor) -> ScoredBatch:
        """Scores pre-processed images ``(N, 3, S, S)`` in [0, 1]; training drives the players one by one."""
        image = batch.mean(1, keepdim=True)
        with frozen(self.generator, self.discriminator):
            features = self._features(image)
            found = self.search(image, features)
        logit = self.discriminator.judge(features)
        others = {
            "residual": found.residual,
            "feature": found.feature,
            "anogan": found.loss,
            "discriminator": discriminator_score(logit, has_probabilities=self.has_probabilities),
        }
        scored: ScoredBatch = self.scorer(image, found.image, lambda _: found.image, others)
        return scored

    def search(self, image: Tensor, features: Tensor) -> Found:
        """Finds the images generated closest to ``(N, 1, S, S)`` in [0, 1] with these features; in :func:`frozen`."""
        search = CodeSearch(
            lambda code: to_unit_range(self.generate(code)),
            self._features,
            self.search_learning_rate,
            self.feature_weight,
        )
        return search(image, foreground(image), features, self.starts, self.search_steps)

    def reconstruct(self, image: Tensor) -> Tensor:
        """The closest generated images, ``(N, 1, S, S)`` in [0, 1] to the same; in evaluation."""
        with frozen(self.generator, self.discriminator):
            return self.search(image, self._features(image)).image

    def _features(self, image: Tensor) -> Tensor:
        """The discriminator's features of images in [0, 1]."""
        return self.discriminator.features(to_tanh_range(image))[-1]
