"""Minibatch discrimination that scores an image on its own in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MinibatchDiscrimination(nn.Module):
    """Closeness of an image's features to those of other images.

    ``M = f(x) T`` is a matrix of ``kernels`` rows; the output is ``o_b(x_i) = mean_j exp(-|M_ib - M_jb|_1)``. Source:
    Salimans et al. 2016, section 3.2, with three changes:

    * ``T`` (16384 x 16384 in the published α-GAN, 95 % of its discriminator) is the product of two thin matrices.
    * The sum over the other images is a mean, so that the output does not grow with the batch.
    * In evaluation the other images are stored features of real training images: the published layer's output, and with
      it the score, depends on which images happen to share the batch.

    Args:
        features: Number of input features.
        kernels: Number of rows of M = number of outputs.
        kernel_size: Length of each row.
        rank: Rank of ``T``.
        references: Number of real training images whose features are kept for evaluation.

    >>> MinibatchDiscrimination(8, kernels=4)(torch.ones(3, 8))
    tensor([[1., 1., 1., 1.],
            [1., 1., 1., 1.],
            [1., 1., 1., 1.]], grad_fn=<DivBackward0>)
    """

    references: Tensor
    stored: Tensor

    def __init__(
        self, features: int, kernels: int = 64, kernel_size: int = 16, rank: int = 64, references: int = 64
    ) -> None:
        super().__init__()
        self.shape = (kernels, kernel_size)
        self.down = nn.Linear(features, rank, bias=False)
        self.up = nn.Linear(rank, kernels * kernel_size, bias=False)
        # Distances between unrelated images start near 1, where exp(-distance) still has a slope.
        nn.init.normal_(self.down.weight, std=features**-0.5)
        nn.init.normal_(self.up.weight, std=1 / (kernel_size * rank**0.5))
        self.register_buffer("references", torch.zeros(references, kernels, kernel_size))
        self.register_buffer("stored", torch.zeros((), dtype=torch.long))

    def forward(self, features: Tensor) -> Tensor:
        """Computes the closeness to other images: of the batch in training, of stored ones in evaluation.

        Args:
            features: ``(N, F)``.

        Returns:
            Closeness in [0, 1], ``(N, kernels)``; with nothing to compare with, 0.
        """
        rows: Tensor = self.up(self.down(features)).unflatten(1, self.shape)
        if self.training and len(rows) > 1:
            # An image is at distance 0 of itself, exp(0) = 1, which does not count.
            return (_closeness(rows, rows).sum(1) - 1) / (len(rows) - 1)
        # Slots that were never filled are masked out rather than cut off, so that the exported graph is static.
        filled = torch.arange(len(self.references), device=rows.device) < self.stored
        closeness = _closeness(rows, self.references) * filled.unsqueeze(1)
        return closeness.sum(1) / self.stored.clamp(min=1)

    def forget(self) -> None:
        """Empties the stored features; the next ones are compared with nothing else."""
        self.stored.zero_()

    @torch.no_grad()
    def remember(self, features: Tensor) -> None:
        """Keeps the features ``(N, F)`` of real training images for evaluation, newest first."""
        rows = self.up(self.down(features)).unflatten(1, self.shape)
        capacity = len(self.references)
        self.references.copy_(torch.cat([rows, self.references])[:capacity])
        self.stored.copy_((self.stored + len(rows)).clamp(max=capacity))


def _closeness(rows: Tensor, others: Tensor) -> Tensor:
    """exp(-L1 distance) of each image's rows to each other image's, (N, K, S) and (M, K, S) to (N, M, K)."""
    return torch.exp(-(rows.unsqueeze(1) - others.unsqueeze(0)).abs().sum(3))
