"""Adversarial losses on logits."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import relu, softplus

AdversarialLoss = Literal["log", "hinge"]


def discriminator_loss(real: Tensor, fakes: list[Tensor], kind: AdversarialLoss) -> Tensor:
    """Loss of a discriminator that tells real inputs from several kinds of fakes.

    ``log``: ``-log D(real) - sum log(1 - D(fake))``. ``hinge``: ``max(0, 1 - real) + sum max(0, 1 + fake)`` (Lim and Ye
    2017). What arXiv 2001.10883 calls "hinge" is ``log`` in its code.

    Args:
        real: Logits of real inputs, higher = more real, ``(N,)``.
        fakes: Logits of each kind of fakes, ``(N,)`` each.
        kind: ``log`` or ``hinge``.

    Returns:
        Scalar.
    """
    if kind == "log":
        return softplus(-real).mean() + sum((softplus(fake).mean() for fake in fakes), real.new_zeros(()))
    return relu(1 - real).mean() + sum((relu(1 + fake).mean() for fake in fakes), real.new_zeros(()))


def generator_loss(fake: Tensor) -> Tensor:
    """Loss of a generator or encoder whose output should pass for real.

    The synthetic-likelihood ratio ``-log D + log(1 - D)`` (Rosca et al. 2017, 1706.04987) is minus the logit, and so is
    the generator's side of the hinge loss: one formula serves both.

    Args:
        fake: Logits of the fakes, higher = more real, ``(N,)``.

    Returns:
        Scalar.
    """
    return -fake.mean()
