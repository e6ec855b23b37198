"""Scores that compare a discriminator's features of a radiograph with those of its reconstruction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def feature_matching(features: Sequence[Tensor], reconstructed: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of features, averaged over the layers.

    Source: Zenati et al. 2018 (1802.06222), section 3; Schlegl et al. 2017 (1703.05921), equation 4.

    Args:
        features: Features of the images, one ``(N, ...)`` a layer.
        reconstructed: Features of their reconstructions, of the same shapes.

    Returns:
        ``(N,)``.
    """
    return _mean([(one - other).abs() for one, other in zip(features, reconstructed, strict=True)])


def feature_matching_signed(features: Sequence[Tensor], reconstructed: Sequence[Tensor]) -> Tensor:
    """Mean difference of features with its sign, averaged over the layers.

    The form of a public implementation of the α-GAN on MURA: differences of opposite signs cancel, so that it says how
    much stronger features are and not how different. Kept for comparison.

    Args:
        features: Features of the images, one ``(N, ...)`` a layer.
        reconstructed: Features of their reconstructions, of the same shapes.

    Returns:
        ``(N,)``, of either sign.
    """
    return _mean([one - other for one, other in zip(features, reconstructed, strict=True)])


def _mean(differences: Sequence[Tensor]) -> Tensor:
    return torch.stack([difference.flatten(1).mean(1) for difference in differences]).mean(0)
