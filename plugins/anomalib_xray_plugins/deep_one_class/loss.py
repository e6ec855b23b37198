"""The two losses of deep one-class features.

Source: Perera and Patel 2019 (1801.05365), section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def compactness(features: Tensor) -> Tensor:
    """How far the features of a batch lie from those of its other images.

    ``1 / (n k) sum_i ||x_i - m_i||^2`` with m_i the mean of the other n - 1 features, of length k (equations 4 to 6).

    Args:
        features: Features of target images, ``(n, k)``.

    Returns:
        Scalar; 0 for a single image, which has no others.
    """
    number = len(features)
    if number < 2:
        return 0 * features.sum()
    # x_i - m_i = n / (n - 1) (x_i - m) with m the mean of all.
    apart = (features - features.mean(0)) * (number / (number - 1))
    return apart.square().mean()


def descriptiveness(logits: Tensor, reference_logits: Tensor, labels: Tensor, classes: int) -> Tensor:
    """How badly the features tell reference classes apart.

    The softmax cross-entropy of the reference batch (equation 3). With a single reference class there is nothing to
    tell apart in it; the target images then join as a second class.

    Args:
        logits: Of target images, ``(n, K)``.
        reference_logits: Of reference images, ``(m, K)``.
        labels: Class of each reference image, ``(m,)``, from 0.
        classes: Number of reference classes; ``K``, or 1 with K = 2.

    Returns:
        Scalar.
    """
    if classes > 1:
        return cross_entropy(reference_logits, labels)
    targets = torch.ones(len(logits), dtype=labels.dtype, device=labels.device)
    return cross_entropy(torch.cat([reference_logits, logits]), torch.cat([labels, targets]))
