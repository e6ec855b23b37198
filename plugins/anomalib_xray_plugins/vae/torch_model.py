"""Network of the variational autoencoder.

Source: arXiv 2001.10883, section 3, and its appendix table of the VAE; Kingma and Welling 2014 (1312.6114).
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from anomalib_xray.networks.latent import GaussianHead, draw
from anomalib_xray.networks.layers import ProductConvTranspose2d
from anomalib_xray.scores import (
    EXTRA_SCORES,
    RECONSTRUCTION_SCORES,
    ReconstructionScorer,
    ScoredBatch,
    error_scores,
    foreground,
    kld_score,
    masked_mean,
)

CROSS_ENTROPY_SCORES = ("bce", "bce_top_k")
"""Scores of the cross-entropy of each pixel."""

SCORES = (*RECONSTRUCTION_SCORES, *CROSS_ENTROPY_SCORES, "kld", "l1_kld", "mse_kld", "bce_kld", *EXTRA_SCORES)
"""Scores that the model can compute."""

SIDE = 2
"""Side of the last map, for every image size."""


class Reconstruction(NamedTuple):
    """Output of the network in training.

    Attributes:
        image: Reconstruction from a drawn code, ``(N, 1, S, S)`` in [0, 1].
        mean: Mean of the code, ``(N, Z)``.
        deviation: Standard deviation of the code, positive, ``(N, Z)``.
    """

    image: Tensor
    mean: Tensor
    deviation: Tensor


def down(inputs: int, outputs: int) -> nn.Sequential:
    """Side S of a feature map to ``S / 2 - 1``."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 4, 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def up(inputs: int, outputs: int, kind: type[nn.ConvTranspose2d] = nn.ConvTranspose2d) -> nn.Sequential:
    """Side S of a feature map to ``2 S + 2``."""
    return nn.Sequential(kind(inputs, outputs, 4, 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class VaeModel(nn.Module):
    """Variational autoencoder without places: the code is a vector.

    Convolutions without padding leave a map of 2 x 2 whatever the image size: 512, 255, 126, 62, 30, 14, 6, 2 as
    published, and one level less for each halving of the image.

    Args:
        image_size: Side S of the images: a power of two, at least 16.
        width: Channels of the first level; every level doubles them (8 as published).
        latent_size: Length Z of the code (1024 as published).
        scorer: Computes scores and map; the default scorer if left out.
    """

    def __init__(
        self, image_size: int = 128, width: int = 8, latent_size: int = 1024, scorer: ReconstructionScorer | None = None
    ) -> None:
        super().__init__()
        levels = image_size.bit_length() - 3
        channels = [width * 2**level for level in range(levels)]
        features = SIDE * SIDE * channels[-1]
        self.encoder = nn.Sequential(
            *(down(narrow, wide) for narrow, wide in pairwise([1, *channels])),
            nn.Flatten(),
        )
        self.head = GaussianHead(nn.Linear(features, latent_size), nn.Linear(features, latent_size))
        self.decoder = nn.Sequential(
            nn.Linear(latent_size, features),
            nn.Unflatten(1, (channels[-1], SIDE, SIDE)),
            up(channels[-1], channels[-2], ProductConvTranspose2d),  # of 2 x 2 places
            *(up(wide, narrow) for narrow, wide in reversed(list(pairwise(channels[:-1])))),
            nn.ConvTranspose2d(width, 1, 6, 2),
            nn.Sigmoid(),
        )
        self.scorer = scorer or ReconstructionScorer("mse_top_k", 0.03, 1.0)
        # Convolutions with few channels on large maps run faster with channels last.
        self.to(memory_format=torch.channels_last)
        for layer in self.modules():
            if isinstance(layer, ProductConvTranspose2d):  # a matrix, as it lies in memory
                layer.to(memory_format=torch.contiguous_format)

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``(N, 1, S, S)`` in [0, 1] to mean and standard deviation of their codes, each ``(N, Z)``."""
        mean, deviation = self.head(self.encoder(image.contiguous(memory_format=torch.channels_last)))
        return mean, deviation

    def latent(self, image: Tensor) -> Tensor:
        """Mean codes ``(N, Z)`` of images ``(N, 1, S, S)`` in [0, 1]."""
        return self.encode(image)[0]

    def reconstruct(self, image: Tensor) -> Tensor:
        """Decodes the mean code, ``(N, 1, S, S)`` in [0, 1] to the same."""
        mean, _ = self.encode(image)
        reconstruction: Tensor = self.decoder(mean)
        return reconstruction

    def forward(self, batch: Tensor) -> Reconstruction | ScoredBatch:
        """Reconstructs from a drawn code in training, scores the reconstruction from the mean code in evaluation.

        Images are pre-processed, ``(N, 3, S, S)`` in [0, 1].
        """
        image = batch.mean(1, keepdim=True)
        mean, deviation = self.encode(image)
        if self.training:
            return Reconstruction(self.decoder(draw(mean, deviation)), mean, deviation)
        logits = self.decoder[:-1](mean)
        reconstruction, entropy = self.decoder[-1](logits), cross_entropy(image, logits)
        others = error_scores({"bce": entropy}, foreground(image), self.scorer.top_k)
        others |= code_scores(image, reconstruction, entropy, kld_score(mean, deviation))
        scored: ScoredBatch = self.scorer(image, reconstruction, self.reconstruct, others)
        if self.scorer.score not in CROSS_ENTROPY_SCORES:
            return scored
        return scored._replace(anomaly_map=self.scorer.anomaly_map(entropy, foreground(image)))


def cross_entropy(image: Tensor, logits: Tensor) -> Tensor:
    """Binary cross-entropy of each pixel in nats, the image ``(N, 1, S, S)`` in [0, 1] taken as probability.

    From logits, because a reconstruction that rounds to 1 has no logarithm of its rest.
    """
    return softplus(logits) - image * logits


def code_scores(image: Tensor, reconstruction: Tensor, entropy: Tensor, kld: Tensor) -> dict[str, Tensor]:
    """Scores that look at the code, and their plain sums with reconstruction errors.

    The sums are as published: an error of a mean pixel, at most 1, plus nats of a whole code, so that the code speaks
    almost alone. The ``l1`` in it is the absolute error, as its name says; the published code took the smooth one
    there. ``bce_kld`` is the loss that the published model was trained with.
    """
    error, mask = image - reconstruction, foreground(image)
    return {
        "kld": kld,
        "l1_kld": masked_mean(error.abs(), mask) + kld,
        "mse_kld": masked_mean(error.square(), mask) + kld,
        "bce_kld": masked_mean(entropy, mask) + kld,
    }
