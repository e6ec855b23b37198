"""The loss of the f-AnoGAN's encoder."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import mse_loss

from anomalib_xray.components import masked_mse_loss


def encoder_loss(
    image: Tensor,
    reconstruction: Tensor,
    mask: Tensor,
    features: Tensor,
    reconstructed_features: Tensor,
    feature_weight: float,
) -> Tensor:
    """``MSE(x, G(E(x))) + k MSE(f(x), f(G(E(x))))``, the loss "izi_f".

    Pixels count in the foreground only: the background is 0 by preparation, and a score never looks at it. The critic's
    features see the whole images, so that a hand of the wrong outline still costs. On raw images, whose foreground is
    everything, this is the published loss. Source: Schlegl et al. 2019 (f-AnoGAN), section 3.3.

    Args:
        image: ``(N, 1, S, S)`` in [-1, 1].
        reconstruction: ``G(E(x))``, same range and shape.
        mask: 1 in the foreground and 0 outside, same shape.
        features: The critic's features of the images, ``(N, F)``.
        reconstructed_features: Those of the reconstructions, ``(N, F)``.
        feature_weight: Weight k of the features (1 as published).

    Returns:
        Scalar.
    """
    return masked_mse_loss(reconstruction, image, mask) + feature_weight * mse_loss(reconstructed_features, features)
