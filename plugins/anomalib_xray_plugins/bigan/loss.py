"""Losses of the BiGAN's players, on logits.

Source: Donahue et al. 2017 (1605.09782), section 3; Zenati et al. 2018 (1802.06222); arXiv 2001.10883, section 3.
"""

from __future__ import annotations

from torch import Tensor

from anomalib_xray.components import AdversarialLoss, discriminator_loss, passing_loss


def pair_discriminator_loss(
    encoded: Tensor, generated: Tensor, kind: AdversarialLoss, soft_labels: float = 0.0
) -> Tensor:
    """Images with their codes against codes with their images; ``log``: ``-log D(x, E(x)) - log(1 - D(G(z), z))``.

    Args:
        encoded: Logits of images and the encoder's codes, higher = more real, ``(N,)``.
        generated: Logits of the generator's images and the codes drawn for them, ``(N,)``.
        kind: ``log``, ``hinge`` or ``wgan-gp``, then without the penalty.
        soft_labels: See :func:`~anomalib_xray.components.discriminator_loss`.

    Returns:
        Scalar.
    """
    return discriminator_loss(encoded, [generated], kind, soft_labels)


def encoder_loss(encoded: Tensor, kind: AdversarialLoss) -> Tensor:
    """The encoder's pairs should pass for the generator's; ``log``: ``-log(1 - D(x, E(x)))``.

    Args:
        encoded: Logits of images and the encoder's codes, ``(N,)``.
        kind: ``log``, ``hinge`` or ``wgan-gp``.

    Returns:
        Scalar.
    """
    return passing_loss(-encoded, kind)


def pair_generator_loss(generated: Tensor, kind: AdversarialLoss) -> Tensor:
    """The generator's pairs should pass for the encoder's; ``log``: ``-log D(G(z), z)``.

    Args:
        generated: Logits of the generator's images and the codes drawn for them, ``(N,)``.
        kind: ``log``, ``hinge`` or ``wgan-gp``.

    Returns:
        Scalar.
    """
    return passing_loss(generated, kind)
