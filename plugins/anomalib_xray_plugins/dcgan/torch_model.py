"""The DCGAN as one module: its players and the scores of its discriminator."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from anomalib_xray.networks.adversarial import AdversarialLoss, moving_average
from anomalib_xray.networks.gan_network import GanNetwork
from anomalib_xray.networks.grad_cam import GRAD_CAM, grad_cam_map
from anomalib_xray.networks.sagan import to_tanh_range
from anomalib_xray.scores import (
    ScoredBatch,
    SmoothedErrorMap,
    discriminator_score,
    error_scores,
    foreground,
)
from anomalib_xray.training.gan_model import AT_A_TIME, evaluating
from anomalib_xray_plugins.dcgan.networks import Discriminator, Generator, Norm

CHUNK = 1024
"""Stored features that are compared at a time, so that no large matrix stands in memory."""

LEAST = 0.01
"""Smallest standard deviation of a channel, as a share of the largest."""


class FeatureMemory(nn.Module):
    """Stored features of normal images, and the distance of an image's features from the closest of them.

    A feature is the vector of a feature map's channels at one position of the foreground. Wherever in a training image
    it was, it may be compared with any position: hands lie differently in every radiograph. Nearest stored features as
    in Roth et al. 2022 (2106.08265, PatchCore), there of a network trained on photographs and without whitening.

    Args:
        channels: Channels C of the feature map.
        references: Number M of features that are stored, a random choice out of all.
    """

    references: Tensor
    scale: Tensor
    filled: Tensor

    def __init__(self, channels: int, references: int) -> None:
        super().__init__()
        self.register_buffer("references", torch.zeros(references, channels))
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("filled", torch.zeros(()))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Measures the distance at every pixel, 0 everywhere as long as nothing is stored.

        Args:
            features: Features of images, ``(N, C, h, w)``.
            mask: 1 in the foreground and 0 outside, ``(N, 1, H, W)``, H and W multiples of h and w.

        Returns:
            Mean squared difference from the closest stored feature, each channel in units of its standard deviation in
            training images, ``(N, 1, H, W)``.
        """
        vectors = features.permute(0, 2, 3, 1).flatten(0, 2) * self.scale
        length = vectors.square().sum(1, keepdim=True)
        closest = [
            (length + some.square().sum(1) - 2 * vectors @ some.T).amin(1)
            for some in torch.split(self.references, CHUNK)
        ]
        distance = torch.stack(closest).amin(0).clamp(min=0) * self.filled / features.shape[1]
        shaped = distance.reshape(features.shape[0], 1, *features.shape[2:])
        # Features of the background say nothing, so the pixels beside it are interpolated from the foreground's alone.
        shown = _shown(features, mask)
        weight = _enlarged(shown, mask).clamp(min=torch.finfo(mask.dtype).eps)
        return _enlarged(shaped * shown, mask) / weight * mask

    @torch.no_grad()
    def store(self, features: Tensor, mask: Tensor, generator: torch.Generator) -> None:
        """Replaces the stored features by some of normal images ``(N, C, h, w)`` in their foreground ``(N, 1, H, W)``.

        ``generator`` chooses among them, on the CPU.
        """
        vectors = features.permute(0, 2, 3, 1)[_shown(features, mask).squeeze(1) > 0]
        if not len(vectors):
            return
        deviation = vectors.std(0, correction=0)
        # A channel that hardly varies must not outweigh all others.
        scale = 1 / deviation.clamp(min=max(LEAST * float(deviation.max()), torch.finfo(vectors.dtype).eps))
        count = len(self.references)
        # Each feature is taken as often as any other, where there are fewer of them than places.
        order = torch.randperm(len(vectors), generator=generator).repeat(-(-count // len(vectors)))[:count]
        self.references.copy_(vectors[order.to(vectors.device)] * scale)
        self.scale.copy_(scale)
        self.filled.fill_(1)


def _shown(features: Tensor, mask: Tensor) -> Tensor:
    """1 where a feature has foreground under it, ``(N, 1, h, w)``."""
    return max_pool2d(mask, mask.shape[-1] // features.shape[-1])


def _enlarged(small: Tensor, mask: Tensor) -> Tensor:
    """``(N, 1, h, w)`` to the size of the mask."""
    return interpolate(small, scale_factor=mask.shape[-1] // small.shape[-1], mode="bilinear")


SCORES = ("discriminator", "feature_distance", "feature_distance_top_k")
"""Scores that the model can compute."""

MAPS = ("feature_distance", GRAD_CAM)
"""Anomaly maps that the model can give."""

LARGEST_MAP = 32
"""Side of the largest feature map whose features are compared with stored ones, a quarter of the image at most."""


class DcganModel(GanNetwork):
    """Generator and discriminator, from the settings of ``Dcgan``.

    As published, the generator's width is 16 and the discriminator's 4, and the code has 2048 numbers.
    """

    discriminator: Discriminator

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
            **error_scores({"feature_distance": distance}, mask, self.top_k),
        }
        if self.map == GRAD_CAM:
            distance = grad_cam_map(self.discriminator_logit, self.discriminator.levels[-1], to_tanh_range(image))
        return ScoredBatch.of(scores, self.score, self.anomaly_map(distance, mask))

    @torch.no_grad()
    def remember(self, image: Tensor, generator: torch.Generator) -> None:
        """Stores features of training images ``(N, 1, S, S)`` in [0, 1], as the discriminator now sees them."""
        network, levels = self.discriminator, self.compared_level + 1
        with evaluating(network):
            some = [network.features(to_tanh_range(part), levels)[-1] for part in torch.split(image, AT_A_TIME)]
        self.memory.store(torch.cat(some), foreground(image), generator)
