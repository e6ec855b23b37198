"""Scores that look at codes."""

from __future__ import annotations

from torch import Tensor


def kl_divergence(mean: Tensor, deviation: Tensor) -> Tensor:
    """Kullback-Leibler divergence of a code's distribution from the standard normal one, by dimension.

    ``-1/2 (1 + log s^2 - m^2 - s^2)``. Source: Kingma and Welling 2014, appendix B.

    Args:
        mean: ``(N, Z)``.
        deviation: Standard deviation, positive, ``(N, Z)``.

    Returns:
        In nats, at least 0, ``(N, Z)``.
    """
    return -0.5 * (1 + 2 * deviation.log() - mean.square() - deviation.square())


def kld_score(mean: Tensor, deviation: Tensor) -> Tensor:
    """How unusual a code's distribution is: the divergence of :func:`kl_divergence` summed over the code.

    Args:
        mean: ``(N, Z)``.
        deviation: Standard deviation, positive, ``(N, Z)``.

    Returns:
        In nats, ``(N,)``.
    """
    return kl_divergence(mean, deviation).sum(1)


def latent_distance(code: Tensor, code_of_reconstruction: Tensor) -> Tensor:
    """How far the code of an image lies from the code of its reconstruction: mean squared difference.

    Source: Schlegl et al. 2019 (f-AnoGAN), section 3.4; Akçay et al. 2018 (GANomaly), equation 5.

    Args:
        code: ``(N, Z)``.
        code_of_reconstruction: ``(N, Z)``.

    Returns:
        ``(N,)``.
    """
    return (code - code_of_reconstruction).square().mean(1)
