"""How many units of a code say something about the image."""

from __future__ import annotations

import torch
from torch import Tensor

ACTIVE = 0.01
"""Variance over images from which on the mean of a unit counts as active (Burda et al. 2016, section 4.1)."""


class ActiveUnits:
    """Counts units of a code whose mean differs between images: ``Var_x(E[z | x]) > 0.01``.

    The variance is gathered batch by batch (Chan et al. 1979), so that no codes are kept. Source: Burda et al. 2016,
    "Importance weighted autoencoders" (1509.00519), section 4.1.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets all codes."""
        self.seen = 0
        self.mean = torch.zeros(())
        self.squares = torch.zeros(())

    @torch.no_grad()
    def update(self, means: Tensor) -> None:
        """Adds the codes of a batch.

        Args:
            means: Means of the codes, ``(N, Z)``.
        """
        means = means.float()
        count, mean = len(means), means.mean(0)
        squares = (means - mean).square().sum(0)
        total = self.seen + count
        difference = mean - self.mean.to(mean.device)
        self.squares = self.squares.to(mean.device) + squares + difference.square() * (self.seen * count / total)
        self.mean = mean - difference * (self.seen / total)
        self.seen = total

    def count(self) -> int:
        """Number of active units; 0 before any code."""
        return int((self.squares / max(self.seen, 1) > ACTIVE).sum())
