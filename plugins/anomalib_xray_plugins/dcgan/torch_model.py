"""The DCGAN as one module: its players and the scores of its discriminator."""

from __future__ import annotations

from torch import Tensor

from anomalib_xray.networks.adversarial import AdversarialLoss, moving_average
from anomalib_xray.networks.feature_memory import FeatureMemory
from anomalib_xray.networks.gan_network import GanNetwork
from anomalib_xray.networks.grad_cam import GRAD_CAM, grad_cam_map
from anomalib_xray.networks.sagan import to_tanh_range
from anomalib_xray.scores import (
    FEATURE_DISTANCE,
    FEATURE_SCORES,
    ScoredBatch,
    SmoothedErrorMap,
    discriminator_score,
    error_scores,
    foreground,
)
from anomalib_xray_plugins.dcgan.networks import Discriminator, Generator, Norm

SCORES = ("discriminator", *FEATURE_SCORES)
"""Scores that the model can compute."""

MAPS = (FEATURE_DISTANCE, GRAD_CAM)
"""Anomaly maps that the model can give."""

LARGEST_MAP = 32
"""Side of the largest feature map whose features are compared with stored ones, a quarter of the image at most."""


class DcganModel(GanNetwork):
    """Generator and discriminator, from the settings of ``Dcgan``.

    As published, the generator's width is 16 and the discriminator's 4, and the code has 2048 numbers.
    """

    discriminator: Discriminator
    memory: FeatureMemory

    def __init__(
        self,
        image_size: int = 512,
        width: int = 16,
        discriminator_width: int = 4,
        latent_size: int = 2048,
        norm: Norm = "none",
        spectral_norm: bool = True,
        minibatch_discrimination: bool = True,
        ema_decay: float = 0.0,
        references: int = 16384,
        score: str = "feature_distance_top_k",
        top_k: float = 0.03,
        map_sigma: float = 1.0,
        anomaly_map: str = "feature_distance",
        adversarial_loss: AdversarialLoss = "hinge",
    ) -> None:
        super().__init__(adversarial_loss, anomaly_map, MAPS)
        self.generator = Generator(image_size, width, latent_size, norm, spectral_norm)
        self.discriminator = Discriminator(image_size, discriminator_width, minibatch_discrimination, spectral_norm)
        self.average = moving_average(self.generator, ema_decay)
        sides = [image_size // 2 ** (level + 1) for level in range(len(self.discriminator.channels))]
        self.compared_level = next(
            level for level, side in enumerate(sides) if side <= min(image_size / 4, LARGEST_MAP)
        )
        self.memory = FeatureMemory(self.discriminator.channels[self.compared_level], references)
        self.score = score
        self.top_k = top_k
        self.anomaly_map = SmoothedErrorMap(map_sigma)

    def forward(self, batch: Tensor) -> ScoredBatch:
        """Scores pre-processed images ``(N, 3, S, S)`` in [0, 1]; training drives the players one by one."""
        image = batch.mean(1, keepdim=True)
        mask = foreground(image)
        features = self.discriminator.features(to_tanh_range(image))
        distance = self.memory(features[self.compared_level], mask)
        logit = self.discriminator.judge(features[-1])
        scores = {
            "discriminator": discriminator_score(logit, has_probabilities=self.has_probabilities),
            **error_scores({FEATURE_DISTANCE: distance}, mask, self.top_k),
        }
        if self.map == GRAD_CAM:
            distance = grad_cam_map(self.discriminator_logit, self.discriminator.levels[-1], to_tanh_range(image))
        return ScoredBatch.of(scores, self.score, self.anomaly_map(distance, mask))

    def compared_features(self, image: Tensor) -> Tensor:
        """The features that are compared with stored ones, of images ``(N, 1, S, S)`` in (-1, 1)."""
        return self.discriminator.features(image, self.compared_level + 1)[-1]
