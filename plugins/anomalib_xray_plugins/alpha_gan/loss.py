"""Losses of the α-GAN's four players, on logits.

Source: Rosca et al. 2017 (1706.04987), section 4; arXiv 2001.10883, section 3.
"""

from __future__ import annotations

from math import exp

from torch import Tensor

from anomalib_xray.components import AdversarialLoss, discriminator_loss, generator_loss
from anomalib_xray.components.latent import LOG_VARIANCE
from anomalib_xray.scores import kld_score


def encoder_loss(error: Tensor, code_logits: Tensor, weight: float) -> Tensor:
    """``weight |x - x'| - log C(z') + log(1 - C(z'))``.

    Args:
        error: Mean error of the reconstructions, a scalar; ``|x - x'|`` as published.
        code_logits: Code discriminator's logits of the encoder's codes, ``(N,)``.
        weight: Weight of the reconstruction (0.01 as published).

    Returns:
        Scalar.
    """
    return weight * error + generator_loss(code_logits)


def divergence_loss(mean: Tensor, deviation: Tensor) -> Tensor:
    """Divergence of the codes' distributions from the standard normal one: sum over the code, mean over the images.

    Args:
        mean: ``(N, Z)``.
        deviation: Factor of the drawn noise, ``(N, Z)``; of either sign with codes through tanh, where its size counts.

    Returns:
        Scalar, in nats, at least 0.
    """
    return kld_score(mean, deviation.abs().clamp(min=exp(-LOG_VARIANCE / 2))).mean()


def generator_step_loss(error: Tensor, reconstruction_logits: Tensor, sample_logits: Tensor, weight: float) -> Tensor:
    """``weight |x - x'|`` plus ``-log D + log(1 - D)`` of the reconstructions and of the samples.

    Args:
        error: As in :func:`encoder_loss`.
        reconstruction_logits: Discriminator's logits of the reconstructions, ``(N,)``.
        sample_logits: Discriminator's logits of images generated from normal codes, ``(N,)``.
        weight: Weight of the reconstruction (0.01 as published).

    Returns:
        Scalar.
    """
    adversarial = generator_loss(reconstruction_logits) + generator_loss(sample_logits)
    return weight * error + adversarial


def image_discriminator_loss(
    real: Tensor, reconstruction: Tensor, sample: Tensor, kind: AdversarialLoss, soft_labels: float = 0.0
) -> Tensor:
    """Real images against reconstructions and against samples.

    Args:
        real: Logits of real images, ``(N,)``.
        reconstruction: Logits of reconstructions, ``(N,)``.
        sample: Logits of images generated from normal codes, ``(N,)``.
        kind: ``log``, ``hinge`` or ``wgan-gp``, then without the penalty.
        soft_labels: See :func:`~anomalib_xray.components.discriminator_loss`.

    Returns:
        Scalar.
    """
    return discriminator_loss(real, [reconstruction, sample], kind, soft_labels)


def code_discriminator_loss(normal: Tensor, encoded: Tensor, kind: AdversarialLoss) -> Tensor:
    """Codes drawn from the normal distribution against the encoder's.

    Args:
        normal: Logits of codes drawn from the normal distribution, ``(N,)``.
        encoded: Logits of the encoder's codes, ``(N,)``.
        kind: ``log``, ``hinge`` or ``wgan-gp``, then without the penalty.

    Returns:
        Scalar.
    """
    return discriminator_loss(normal, [encoded], kind)
