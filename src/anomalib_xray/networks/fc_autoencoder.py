"""Autoencoder whose code is a short vector, plain, with a memory, or with a predicted uncertainty.

Source: Cai et al. 2022, "Dual-distribution discrepancy for anomaly detection in chest
X-rays" (2206.03935), and its code; the uncertainty Mao et al. 2020 (2006.11436), the memory Gong et al. 2019
(1904.02639).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from anomalib_xray.networks.latent import LOG_VARIANCE
from anomalib_xray.networks.memory import Memory, memory_entropy

Kind = Literal["ae", "mem_ae", "ae_u"]
"""Plain, with a memory, with a predicted uncertainty."""

SIDE = 4
"""Side of the last map, for every image size."""

WIDEST = 4
"""Most channels of a level, in multiples of the first level's."""


class Reconstruction(NamedTuple):
    """Reconstruction of images, with what comes beside it.

    Attributes:
        image: Reconstruction on the scale [-1, 1], which it may leave, ``(N, 1, S, S)``.
        log_variance: Logarithm of the predicted variance of each pixel, ``(N, 1, S, S)``; ``None`` without uncertainty.
        weights: Weights of the memory's items, ``(N, M)``; ``None`` without a memory.
    """

    image: Tensor
    log_variance: Tensor | None
    weights: Tensor | None


class VectorNorm(nn.BatchNorm1d):
    """Batch normalisation of vectors ``(N, C)`` that also trains on one: by the running statistics, which it keeps."""

    def forward(self, vectors: Tensor) -> Tensor:
        """Normalises."""
        if self.training and len(vectors) == 1:  # one value has no variance
            return batch_norm(
                vectors, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
            )
        return super().forward(vectors)


def down(inputs: int, outputs: int) -> nn.Sequential:
    """Halves the size of a feature map."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def up(inputs: int, outputs: int) -> nn.Sequential:
    """Doubles the size of a feature map."""
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class FcAutoencoder(nn.Module):
    """Convolutions down to 4 x 4, two fully connected layers to the code, and the same back; linear output.

    Args:
        image_size: Side S of the images: a power of two, at least 8; 64 as published.
        width: Channels of the first level; they double up to four times as many (16, 32, 64, 64 as published).
        hidden: Units of the hidden fully connected layers (2048 as published).
        latent_size: Length Z of the code (16 as published).
        uncertainty: Whether the network also predicts the variance of each pixel.
        memory: Memory of codes, whose size is Z; none if left out.

    >>> FcAutoencoder(image_size=16, hidden=32)(torch.zeros(2, 1, 16, 16)).image.shape
    torch.Size([2, 1, 16, 16])
    """

    def __init__(
        self,
        image_size: int = 64,
        width: int = 16,
        hidden: int = 2048,
        latent_size: int = 16,
        uncertainty: bool = False,
        memory: Memory | None = None,
    ) -> None:
        super().__init__()
        levels = (image_size // SIDE).bit_length() - 1
        channels = [width * min(2**level, WIDEST) for level in range(levels)]
        features = channels[-1] * SIDE * SIDE
        self.encoder = nn.Sequential(
            *(down(inputs, outputs) for inputs, outputs in pairwise([1, *channels])),
            nn.Flatten(),
            nn.Linear(features, hidden),
            VectorNorm(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, latent_size),
        )
        self.memory = memory
        self.decoder = nn.Sequential(
            nn.Linear(latent_size, hidden),
            VectorNorm(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, features),
            nn.Unflatten(1, (channels[-1], SIDE, SIDE)),
            *(up(outputs, inputs) for inputs, outputs in reversed(list(pairwise(channels)))),
            nn.ConvTranspose2d(width, 2 if uncertainty else 1, 4, 2, 1, bias=False),
        )
        # Convolutions with few channels on large maps run faster with channels last.
        self.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> Reconstruction:
        """Encodes and decodes images ``(N, 1, S, S)`` in [-1, 1]."""
        code, weights = self.encoder(image), None
        if self.memory is not None:
            code, weights = self.memory(code)
        made = self.decoder(code)
        if made.shape[1] == 1:
            return Reconstruction(made, None, weights)
        # Kept within limits, because nothing else stops the variance of a background that is always the same.
        return Reconstruction(made[:, :1], made[:, 1:].clamp(-LOG_VARIANCE, LOG_VARIANCE), weights)


def squared_error(made: Reconstruction, image: Tensor) -> Tensor:
    """Squared error ``(x - x')^2 exp(-log variance)`` of each pixel, without a predicted variance the squared error."""
    error = (image - made.image).square()
    return error if made.log_variance is None else error * (-made.log_variance).exp()


def fc_autoencoder_loss(made: Reconstruction, image: Tensor, mask: Tensor, entropy_weight: float = 0.0) -> Tensor:
    """Mean squared error; over the predicted variance, plus its logarithm, where there is one; plus weighted entropy.

    With a predicted variance it is twice the negative log-likelihood of a normal distribution, up to a constant, and so
    may be negative (2006.11436, equation 3).

    Args:
        made: Reconstruction of the image.
        image: ``(N, 1, S, S)`` in [-1, 1].
        mask: 1 where pixels count and 0 elsewhere, ``(N, 1, S, S)``.
        entropy_weight: Weight of the mean entropy of the memory's addressing.

    Returns:
        Scalar; 0 without a pixel that counts, but for the entropy.
    """
    error = squared_error(made, image)
    if made.log_variance is not None:
        error = error + made.log_variance
    loss = (error * mask).sum() / mask.sum().clamp(min=1)
    return loss if made.weights is None else loss + entropy_weight * memory_entropy(made.weights)
