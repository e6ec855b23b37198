"""Loss of the variational autoencoder.

Source: Kingma and Welling 2014 (1312.6114), section 2.3; Higgins et al. 2017 for its weight; arXiv 2001.10883's code.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from anomalib_xray.scores import kld_score

Reduction = Literal["pixels", "sum"]


def divergence_loss(mean: Tensor, deviation: Tensor, mask: Tensor, reduction: Reduction) -> Tensor:
    """Divergence of a batch's codes from the standard normal distribution, on the scale of a mean pixel or not.

    Args:
        mean: ``(N, Z)``.
        deviation: Standard deviation, positive, ``(N, Z)``.
        mask: 1 where pixels count and 0 elsewhere, ``(N, 1, H, W)``.
        reduction: ``pixels``: divided by the number of pixels that count, so that with a log-likelihood averaged over
            the same pixels and weight 1 it makes the negative evidence lower bound a pixel. ``sum``: over batch and
            code, as published; beside an error of a mean pixel it leaves the code no content.

    Returns:
        Scalar, in nats.
    """
    divergence = kld_score(mean, deviation).sum()
    return divergence / mask.sum().clamp(min=1) if reduction == "pixels" else divergence


def warmed_up(beta: float, epoch: int, epochs: int) -> float:
    """Weight of the divergence, raised along a line over the first epochs, so that codes get content.

    Source: Bowman et al. 2016 (1511.06349), section 3.1.

    Args:
        beta: Weight after the warm-up.
        epoch: Number of the epoch, from 0 on.
        epochs: Epochs of the warm-up; 0 for none.

    Returns:
        ``beta / epochs`` in the first epoch, ``beta`` from the last epoch of the warm-up on.
    """
    return beta * min(1.0, (epoch + 1) / epochs) if epochs else beta
