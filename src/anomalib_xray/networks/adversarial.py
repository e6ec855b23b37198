"""Adversarial losses on logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import binary_cross_entropy_with_logits, relu, softplus
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.minibatch_discrimination import MinibatchDiscrimination

AdversarialLoss = Literal["log", "hinge", "wgan-gp"]


def check_soft_labels(soft_labels: float, kind: AdversarialLoss) -> None:
    """Checks the largest distance of a label from 0 or 1, other than 0 only for a loss that has labels.

    Raises:
        XrayError: It is outside [0, 0.5), or the loss has no labels.
    """
    if not 0 <= soft_labels < 0.5:
        msg = f"soft_labels is {soft_labels}, but labels may lie at least 0 and less than 0.5 from 0 and 1."
        raise XrayError(msg)
    if soft_labels and kind != "log":
        msg = f"soft_labels is {soft_labels}, but the loss {kind!r} has no labels; set it to 0, or take the loss log."
        raise XrayError(msg)


def discriminator_loss(real: Tensor, fakes: list[Tensor], kind: AdversarialLoss, soft_labels: float = 0.0) -> Tensor:
    """Loss of a discriminator that tells real inputs from several kinds of fakes.

    ``log``: ``-log D(real) - sum log(1 - D(fake))``. ``hinge``: ``max(0, 1 - real) + sum max(0, 1 + fake)`` (Lim and Ye
    2017). ``wgan-gp``: ``-real + sum fake`` (Arjovsky et al. 2017), to which :func:`gradient_penalty` is added. What
    arXiv 2001.10883 calls "hinge" is ``log`` in its code.

    Args:
        real: Logits of real inputs, higher = more real, ``(N,)``.
        fakes: Logits of each kind of fakes, ``(N,)`` each.
        kind: ``log``, ``hinge`` or ``wgan-gp``.
        soft_labels: With ``log``, labels are drawn evenly from [1 - soft_labels, 1] for real inputs and from
            [0, soft_labels] for fakes (0.01 in arXiv 2001.10883's DCGAN).

    Returns:
        Scalar.

    >>> discriminator_loss(torch.tensor([2.0]), [torch.tensor([-0.5])], "hinge")
    tensor(0.5000)
    """
    zero = real.new_zeros(())
    if kind == "log":
        if soft_labels:
            loss = binary_cross_entropy_with_logits(real, 1 - soft_labels * torch.rand_like(real))
            return loss + sum(
                (binary_cross_entropy_with_logits(fake, soft_labels * torch.rand_like(fake)) for fake in fakes), zero
            )
        return softplus(-real).mean() + sum((softplus(fake).mean() for fake in fakes), zero)
    if kind == "hinge":
        return relu(1 - real).mean() + sum((relu(1 + fake).mean() for fake in fakes), zero)
    return -real.mean() + sum((fake.mean() for fake in fakes), zero)


def generator_loss(fake: Tensor) -> Tensor:
    """Loss of a generator or encoder whose output should pass for real: minus the logit.

    The synthetic-likelihood ratio ``-log D + log(1 - D)`` (Rosca et al. 2017, 1706.04987) is minus the logit, and so is
    the generator's side of the hinge loss and of Wasserstein's: one formula serves all.

    Args:
        fake: Logits of the fakes, higher = more real, ``(N,)``.

    Returns:
        Scalar.

    >>> generator_loss(torch.tensor([1.0, 2.0]))
    tensor(-1.5000)
    """
    return -fake.mean()


def passing_loss(fake: Tensor, kind: AdversarialLoss) -> Tensor:
    """Loss of a generator in the loss that its discriminator has.

    ``log``: ``-log D(fake)``, which does not saturate where the discriminator is sure (Goodfellow et al. 2014,
    section 3). The others: minus the logit.

    Args:
        fake: Logits of what should pass for real, higher = more real, ``(N,)``.
        kind: ``log``, ``hinge`` or ``wgan-gp``.

    Returns:
        Scalar.

    >>> passing_loss(torch.tensor([0.0]), "log")
    tensor(0.6931)
    """
    return softplus(-fake).mean() if kind == "log" else generator_loss(fake)


def gradient_penalty(judge: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
    """Penalises a critic's gradient between real and generated inputs for a length other than 1.

    ``mean (|grad_x D(x)|_2 - 1)^2`` at random points of the lines from real to fake. Source: Gulrajani et al. 2017
    (1704.00028), equation 3, without its weight (10 there). It is a property of each input on its own, so that a critic
    whose layers mix the inputs of a batch has none (their section 4, "No critic batch normalization").

    Args:
        judge: The critic, ``(N, ...)`` to logits ``(N,)``.
        real: Real inputs, ``(N, ...)``.
        fake: Generated inputs of the same shape.

    Returns:
        Scalar, differentiable.

    Raises:
        XrayError: The critic is a network that compares the inputs of a batch.

    >>> gradient_penalty(lambda x: 3 * x.flatten(1).sum(1), torch.zeros(2, 1), torch.ones(2, 1)).item()
    4.0
    """
    if isinstance(judge, nn.Module):
        _check_uncoupled(judge)
    share = torch.rand(len(real), *[1] * (real.dim() - 1), device=real.device, dtype=real.dtype)
    between = (share * real.detach() + (1 - share) * fake.detach()).requires_grad_(True)
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of self-attention have no second derivative
        (gradient,) = torch.autograd.grad(judge(between).sum(), between, create_graph=True)
    penalty: Tensor = (gradient.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty


def _check_uncoupled(critic: nn.Module) -> None:
    """Refuses a critic in training whose output for one input depends on the others of the batch."""
    for layer in critic.modules():
        if isinstance(layer, (MinibatchDiscrimination, _BatchNorm)) and layer.training:
            msg = (
                "The gradient penalty of wgan-gp looks at each image on its own, but the critic's "
                f"{type(layer).__name__} mixes those of a batch; leave that layer out, or take the loss hinge or log."
            )
            raise XrayError(msg)


NoiseSchedule = Literal["linear", "published"]


def instance_noise_level(scale: float, epoch: int, epochs: int, schedule: NoiseSchedule = "linear") -> float:
    """Standard deviation of the noise in an epoch.

    ``linear``: ``scale * (1 - epoch / epochs)``. ``published``: ``scale * |e + 1 - E| / (e + 1)`` with e counted from 1
    as in arXiv 2001.10883's code, where scale is 0.01: 2.49 in the first of 500 epochs, 0.04 in the hundredth.
    Source of the idea: Sønderby et al. 2017 (1610.04490), section 3.

    Args:
        scale: Factor of the noise, 0 for none.
        epoch: Number of the epoch, from 0.
        epochs: Number of epochs of the whole training, at least 1.
        schedule: ``linear`` or ``published``.

    Returns:
        The standard deviation, at least 0, in units of the image's range (-1, 1).

    >>> instance_noise_level(0.1, 50, 100)
    0.05
    """
    if schedule == "linear":
        return scale * max(0.0, 1 - epoch / epochs)
    number = epoch + 1
    return scale * abs(number + 1 - epochs) / (number + 1)


def add_noise(image: Tensor, deviation: float) -> Tensor:
    """Adds normal noise to images ``(N, 1, S, S)``; of deviation 0 none, and no random number is drawn."""
    return image + deviation * torch.randn_like(image) if deviation > 0 else image


def moving_average(network: nn.Module, decay: float) -> AveragedModel | None:
    """Makes a copy of a network that follows it, in evaluation and without gradients.

    ``w' = decay * w' + (1 - decay) * w`` after each ``update_parameters``; buffers (batch statistics, singular vectors)
    are the network's own. Source: Yazıcı et al. 2019 (1806.04498); .999 in Zenati et al. 2018's BiGAN.

    Args:
        network: The network to follow.
        decay: Share of the old average that stays in a step; 0 for no average.

    Returns:
        The average, whose ``module`` is the network, or ``None``.

    Raises:
        XrayError: The decay is not in [0, 1).

    >>> network = nn.Linear(1, 1)
    >>> average = moving_average(network, 0.999)
    >>> average.update_parameters(network)
    >>> torch.equal(average.module.weight, network.weight)
    True
    """
    if not 0 <= decay < 1:
        msg = f"ema_decay is {decay}, but it is at least 0 (no average) and less than 1."
        raise XrayError(msg)
    if decay == 0:
        return None
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]  # torch has no types there
    average.requires_grad_(False)
    return average.eval()
