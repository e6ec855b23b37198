"""Scores taken from a discriminator's logit.

The published scores are probabilities, ``1 - D(x)``. Those saturate at 1 in single precision and then tie (the code
discriminator's published AUROC of exactly .500 is such a tie), so the negative log-probability of "real" is used
instead: it ranks images in the same order and does not saturate.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus


def discriminator_score(logit: Tensor) -> Tensor:
    """Negative log-probability that an image or code is real.

    Args:
        logit: Discriminator's output before the sigmoid, higher = more real, ``(N,)``.

    Returns:
        ``-log sigmoid(logit)``, ``(N,)``, at least 0.
    """
    return softplus(-logit)
