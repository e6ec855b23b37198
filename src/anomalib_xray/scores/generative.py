"""Scores of generative models: of codes, and of a discriminator's logits and features."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus

from anomalib_xray.scores.reconstruction import TOP_K

FEATURE_DISTANCE = "feature_distance"
"""Error of a pixel: the distance of its features from the closest stored ones of training images."""

FEATURE_SCORES = (FEATURE_DISTANCE, FEATURE_DISTANCE + TOP_K)
"""Scores of that distance."""

PATCH_DISCRIMINATOR = "patch_discriminator"
"""Error of a pixel: ``-log(1 - p)``, p the probability of its place to hold something foreign."""

PATCH_SCORES = (PATCH_DISCRIMINATOR, PATCH_DISCRIMINATOR + TOP_K)
"""Scores of that error."""


def kl_divergence(mean: Tensor, deviation: Tensor) -> Tensor:
    """Kullback-Leibler divergence of a code's distribution from the standard normal one, by dimension.

    ``-1/2 (1 + log s^2 - m^2 - s^2)``. Source: Kingma and Welling 2014, appendix B.

    Args:
        mean: ``(N, Z)``.
        deviation: Standard deviation, positive, ``(N, Z)``.

    Returns:
        In nats, at least 0, ``(N, Z)``.

    Example:
        >>> kl_divergence(mean=torch.tensor([[0.0, 2.0]]), deviation=torch.ones(1, 2)) + 0.0
        tensor([[0., 2.]])
    """
    return -0.5 * (1 + 2 * deviation.log() - mean.square() - deviation.square())


def kld_score(mean: Tensor, deviation: Tensor) -> Tensor:
    """Sum of :func:`kl_divergence` over the code, ``(N,)``: high where a code's distribution is unusual.

    Example:
        >>> kld_score(mean=torch.tensor([[0.0, 0.0], [1.0, 2.0]]), deviation=torch.ones(2, 2))
        tensor([0.0000, 2.5000])
    """
    return kl_divergence(mean, deviation).sum(1)


def latent_distance(code: Tensor, code_of_reconstruction: Tensor) -> Tensor:
    """Mean squared difference, ``(N,)``, of the codes of an image and of its reconstruction, ``(N, Z)``.

    Source: Schlegl et al. 2019 (f-AnoGAN), section 3.4; Akçay et al. 2018 (GANomaly), equation 5.

    Example:
        >>> latent_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 0.0]]))
        tensor([0.5000])
    """
    return (code - code_of_reconstruction).square().mean(1)


SURE = 4.0
"""Smallest logit whose log-probability is computed as a series: OpenVINO's softplus is off by 1e-6 at any value."""

UNDERFLOW = 80.0
"""Largest logit whose log-probability differs from 0 in single precision, on every runtime."""


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

    Example:
        >>> discriminator_score(torch.tensor([0.0, 2.0]))
        tensor([0.6931, 0.1269])
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
        logits: As in :func:`discriminator_score`.

    Returns:
        ``1 - mean sigmoid(logit)``, ``(N,)`` in [0, 1].

    Example:
        >>> mean_probability_score(torch.tensor([0.0, 9.0]), torch.tensor([0.0, -9.0]))
        tensor([0.5000, 0.5000])
    """
    return torch.stack([torch.sigmoid(-logit) / len(logits) for logit in logits]).sum(0)


def discriminator_difference(logit: Tensor, of_reconstruction: Tensor, has_probabilities: bool = True) -> Tensor:
    """Difference of a discriminator's judgement of an image and of its reconstruction, ``-(D(x) - D(x'))``.

    Args:
        logit: Discriminator's output for the image, before the sigmoid, higher = more real, ``(N,)``.
        of_reconstruction: The same for its reconstruction, ``(N,)``.
        has_probabilities: As in :func:`discriminator_score`.

    Returns:
        Difference of the probabilities, ``(N,)`` in [-1, 1]; of a critic that of its outputs, unbounded.

    Example:
        >>> discriminator_difference(torch.tensor([0.0, 1.0]), of_reconstruction=torch.tensor([2.0, 1.0]))
        tensor([0.3808, 0.0000])
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


def feature_matching(features: Sequence[Tensor], reconstructed: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of features, averaged over the layers.

    Source: Zenati et al. 2018 (1802.06222), section 3; Schlegl et al. 2017 (1703.05921), equation 4.

    Args:
        features: Features of the images, one ``(N, ...)`` per layer.
        reconstructed: Features of their reconstructions, of the same shapes.

    Returns:
        ``(N,)``.

    Example:
        >>> feature_matching([torch.tensor([[1.0, 2.0]])], [torch.tensor([[2.0, 1.0]])])
        tensor([1.])
    """
    return _mean([(one - other).abs() for one, other in zip(features, reconstructed, strict=True)])


def feature_matching_signed(features: Sequence[Tensor], reconstructed: Sequence[Tensor]) -> Tensor:
    """Mean difference of features with its sign, averaged over the layers.

    The form of a public implementation of the α-GAN on MURA, kept for comparison: differences of opposite signs cancel.

    Args:
        features: As in :func:`feature_matching`.
        reconstructed: As in :func:`feature_matching`.

    Returns:
        ``(N,)``, of either sign.

    Example:
        >>> feature_matching_signed([torch.tensor([[1.0, 2.0]])], [torch.tensor([[2.0, 1.0]])])
        tensor([0.])
    """
    return _mean([one - other for one, other in zip(features, reconstructed, strict=True)])


def _mean(differences: Sequence[Tensor]) -> Tensor:
    return torch.stack([difference.flatten(1).mean(1) for difference in differences]).mean(0)


def anogan_score(residual: Tensor, feature: Tensor, feature_weight: float) -> Tensor:
    """``(1 - w) R + w D``, the anomaly score of Schlegl et al. 2017 (1703.05921), equation 6.

    The f-AnoGAN's ``R + k D`` (Schlegl et al. 2019, equation 5) ranks images as this does with ``w = k / (1 + k)``.

    Args:
        residual: Difference of an image and the closest generated one, in pixels, ``(N,)``.
        feature: Difference of their features, ``(N,)``.
        feature_weight: Share w of the features, 0 to 1 (0.1 as published).

    Returns:
        ``(N,)``.

    Example:
        >>> anogan_score(residual=torch.tensor([1.0]), feature=torch.tensor([2.0]), feature_weight=0.5)
        tensor([1.5000])
    """
    return (1 - feature_weight) * residual + feature_weight * feature
