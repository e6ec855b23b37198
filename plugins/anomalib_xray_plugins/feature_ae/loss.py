"""Errors of reconstructed features, in training and as scores.

Sources: Meissen et al. 2022 (2208.10992), section 3, for the structural dissimilarity; Shi et al. 2020 (2012.07122),
section 3, for the squared error.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from anomalib_xray.scores import dissimilarity

FeatureLoss = Literal["ssim", "mse", "cosine"]

WINDOW = 5
"""Side of the window of the structural similarity, in places of the feature map, as published."""


def feature_errors(features: Tensor, reconstruction: Tensor, value_range: float = 1.0) -> dict[FeatureLoss, Tensor]:
    """Computes the errors of the features at each place.

    Args:
        features: Features, ``(N, C, h, w)``.
        reconstruction: Their reconstruction, of the same shape.
        value_range: Width of the range of the features' values, to which the similarity's constants are set.

    Returns:
        ``ssim``: (1 - SSIM) / 2 of each channel's map, averaged over the channels, in [0, 1]; ``mse``: the squared
        difference, averaged over the channels; ``cosine``: (1 - cosine of the angle between the two vectors) / 2, in
        [0, 1]. Each ``(N, 1, h, w)``.
    """
    window = min(WINDOW, 2 * min(features.shape[2:]) - 1)
    cosine = cosine_similarity(features, reconstruction, dim=1, eps=1e-6)
    return {
        "ssim": dissimilarity(features, reconstruction, window, value_range).mean(1, keepdim=True),
        "mse": (features - reconstruction).square().mean(1, keepdim=True),
        "cosine": (1 - cosine).clamp(0, 2).unsqueeze(1) / 2,
    }


def masked_feature_loss(
    features: Tensor, reconstruction: Tensor, weight: Tensor, kind: FeatureLoss, value_range: float = 1.0
) -> Tensor:
    """Mean of an error over the places of a whole batch, weighted by their share of foreground ``(N, 1, h, w)``."""
    with torch.autocast(features.device.type, enabled=False):
        error = feature_errors(features.float(), reconstruction.float(), value_range)[kind]
    return (error * weight).sum() / weight.sum().clamp(min=torch.finfo(weight.dtype).eps)
