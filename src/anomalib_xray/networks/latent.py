"""Heads that turn features into the distribution of a code."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Latent = Literal["linear", "tanh"]

LOG_VARIANCE = 10.0
"""Log-variances are kept within +- this, so that their exponential is finite."""


@runtime_checkable
class HasLatent(Protocol):
    """A network whose code of an image others can use, such as a detector of unusual codes."""

    def latent(self, image: Tensor) -> Tensor:
        """Encodes as evaluation does, without a random draw.

        Args:
            image: ``(N, 1, S, S)`` in [0, 1].

        Returns:
            Codes ``(N, Z)``, or ``(N, Z, h, w)`` where they have places.
        """
        ...


class GaussianHead(nn.Module):
    """Mean and standard deviation of a code from features.

    Args:
        mean: Layer from the features to the mean.
        spread: Layer from the features to the log-variance.
        latent: ``linear``: mean unbounded, log-variance. ``tanh``: mean and standard deviation through tanh, as
            published for the α-GAN; codes in (-1, 1) are then trivially told from the normal distribution.

    >>> mean, deviation = GaussianHead(nn.Linear(8, 2), nn.Linear(8, 2))(torch.zeros(3, 8))
    >>> mean.shape, bool((deviation > 0).all())
    (torch.Size([3, 2]), True)
    """

    def __init__(self, mean: nn.Module, spread: nn.Module, latent: Latent = "linear") -> None:
        super().__init__()
        self.mean = mean
        self.spread = spread
        self.latent = latent

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(N, ...)`` to mean and standard deviation, each ``(N, Z)``."""
        mean, spread = self.mean(features).flatten(1), self.spread(features).flatten(1)
        if self.latent == "tanh":
            return mean.tanh(), spread.tanh()
        return mean, (0.5 * spread.clamp(-LOG_VARIANCE, LOG_VARIANCE)).exp()


def draw(mean: Tensor, deviation: Tensor) -> Tensor:
    """Draws a code ``(N, Z)``, differentiably: ``mean + deviation * e`` with ``e ~ N(0, 1)`` (Kingma and Welling 2014).

    >>> draw(torch.ones(1, 2), torch.zeros(1, 2))
    tensor([[1., 1.]])
    """
    return mean + deviation * torch.randn_like(mean)
