"""Scores taken from a discriminator's logit.

The published scores are probabilities, ``1 - D(x)``. Those saturate at 1 in single precision and then tie (the code
discriminator's published AUROC of exactly .500 is such a tie), so the negative log-probability of "real" is used
instead: it ranks images in the same order and does not saturate.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

SURE = 4.0
"""Logit from which on the log-probability is computed as a series: OpenVINO's softplus is off by 1e-6 at any value."""

UNDERFLOW = 80.0
"""Logit up to which the log-probability is told from 0 in single precision, on every runtime."""


def discriminator_score(*logits: Tensor, has_probabilities: bool = True) -> Tensor:
    """Negative log-probability that an image or code is real, the mean over several discriminators.

    It ranks images as the logit does. Where all logits are so large that the log-probability underflows to 0, the
    smallest logit's distance from there is subtracted.

    Args:
        logits: Each discriminator's output before the sigmoid, higher = more real, ``(N,)``.
        has_probabilities: Whether the discriminators were trained on logits; a Wasserstein critic was not, and its
            output has neither zero point nor unit.

    Returns:
        ``-log sigmoid(logit)``, at least 0 for logits up to 80, falling below it beyond; of a critic minus its output.
        ``(N,)``.
    """
    count = len(logits)
    if not has_probabilities:
        return torch.stack([-logit / count for logit in logits]).sum(0)
    mean = torch.stack([_minus_log_probability(logit) / count for logit in logits]).sum(0)
    return mean - relu(reduce(torch.minimum, logits) - UNDERFLOW)


def mean_probability_score(*logits: Tensor) -> Tensor:
    """Probability that an image or code is not real, the mean over several discriminators, as published.

    It ranks images differently from the mean of log-probabilities, where one discriminator that is sure outweighs all
    others. Near 1 it saturates.

    Args:
        logits: Each discriminator's output before the sigmoid, higher = more real, ``(N,)``.

    Returns:
        ``1 - mean sigmoid(logit)``, ``(N,)`` in [0, 1].
    """
    return torch.stack([torch.sigmoid(-logit) / len(logits) for logit in logits]).sum(0)


def discriminator_difference(logit: Tensor, of_reconstruction: Tensor, has_probabilities: bool = True) -> Tensor:
    """How much less real an image is than its reconstruction, ``-(D(x) - D(x'))``.

    Args:
        logit: Discriminator's output for the image, before the sigmoid, higher = more real, ``(N,)``.
        of_reconstruction: The same for its reconstruction, ``(N,)``.
        has_probabilities: As in :func:`discriminator_score`.

    Returns:
        Difference of the probabilities, ``(N,)`` in [-1, 1]; of a critic that of its outputs, unbounded.
    """
    if not has_probabilities:
        return of_reconstruction - logit
    # Both ways are the same number; near 1 probabilities are rounded coarsely, their complements are not.
    fake = torch.sigmoid(-logit) - torch.sigmoid(-of_reconstruction)
    return torch.where(logit + of_reconstruction > 0, fake, torch.sigmoid(of_reconstruction) - torch.sigmoid(logit))


def _minus_log_probability(logit: Tensor) -> Tensor:
    """``-log sigmoid(logit)`` to the precision of its type; where it is small, by the series of log(1 + u)."""
    fake = torch.exp(-logit.clamp(min=SURE))
    small = fake * (1 - fake * (1 / 2 - fake * (1 / 3 - fake / 4)))
    return torch.where(logit > SURE, small, softplus(-logit))
