"""The AnoGAN's score: how far the closest generated image is, in pixels and in features."""

from __future__ import annotations

from torch import Tensor


def anogan_score(residual: Tensor, feature: Tensor, feature_weight: float) -> Tensor:
    """``(1 - w) R + w D``, the anomaly score of Schlegl et al. 2017 (1703.05921), equation 6.

    The f-AnoGAN's ``R + k D`` (Schlegl et al. 2019, equation 5) ranks images as this does with ``w = k / (1 + k)``.

    Args:
        residual: Difference of an image and the closest generated one, in pixels, ``(N,)``.
        feature: Difference of their features, ``(N,)``.
        feature_weight: Share w of the features, 0 to 1 (0.1 as published).

    Returns:
        ``(N,)``.
    """
    return (1 - feature_weight) * residual + feature_weight * feature
