"""Layer-wise relevance propagation with the epsilon rule: the part of each pixel in a discriminator's logit.

Source: Bach et al. 2015, "On pixel-wise explanations for non-linear classifier decisions by layer-wise relevance
propagation", equation 58; self-attention as in Ali et al. 2022 (2202.07304), section 3: attention weights count as
given. Biases and epsilon keep the relevance that falls to them; nothing else is lost.

It holds for networks of convolutions, linear layers, average and maximum pooling, ReLU, leaky ReLU, the self-attention
of this package, and batch normalisation right after a convolution or linear layer. Other layers, and sums and products
outside of layers, are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.attention import SelfAttention
from anomalib_xray.networks.grad_cam import Judge
from anomalib_xray.networks.minibatch_discrimination import MinibatchDiscrimination

LINEAR = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, SelfAttention)
"""Layers that the epsilon rule is applied to."""

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU)
"""Layers that hand relevance on as it is."""

ROUTING = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout2d, nn.MaxPool2d)
"""Layers that in evaluation only move numbers, and relevance with them."""

_LOST = 1e-2
"""Share of the logit that may be missing without biases before a network is refused."""

Layer = Callable[[Tensor], Tensor]


class Relevance(NamedTuple):
    """Explanation of the logits of a batch.

    Attributes:
        logit: The discriminator's logits, higher = more real, ``(N,)``.
        pixels: Part of each pixel in ``-logit``, of either sign, ``(N, 1, S, S)``.
        elsewhere: Part of the other inputs, ``(N,)``: a code beside the image, and the closeness to other images in
            minibatch discrimination, which no rule is known for.
    """

    logit: Tensor
    pixels: Tensor
    elsewhere: Tensor


def relevance(discriminator: nn.Module, judge: Judge, image: Tensor, epsilon: float = 1e-6) -> Relevance:
    """Propagates minus the logit back to the pixels.

    Where no layer has a bias, ``pixels`` and ``elsewhere`` add up to ``-logit``. Each image is explained on its own.

    Args:
        discriminator: The network in plain layers, see :func:`plain_copy`.
        judge: Calls it once; anything else that it computes, such as a code, counts as given.
        image: Images as the discriminator takes them, ``(N, 1, S, S)`` in (-1, 1).
        epsilon: Added to the magnitude of a rule's divisor, which may be 0.

    Raises:
        XrayError: The network has a layer without a rule.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False), nn.Flatten(0))
        >>> found = relevance(network, network, torch.tensor([[[[0.5, -0.5], [0.0, 0.0]]]]))
        >>> bool(torch.isclose(found.pixels.sum(), -found.logit, atol=1e-4))
        True
    """
    with torch.inference_mode(False), torch.enable_grad(), _rules(discriminator, epsilon) as others:
        pixels = image.detach().clone().requires_grad_(True)
        logit = judge(pixels)
        found = torch.autograd.grad(logit, [pixels, *others], -logit.detach(), materialize_grads=True)
    elsewhere = sum((part.flatten(1).sum(1) for part in found[1:]), torch.zeros_like(logit))
    return Relevance(logit.detach(), found[0], elsewhere.detach())


def check_conservation(discriminator: nn.Module, judge: Judge, image: Tensor) -> None:
    """Checks that rules cover all that a network computes: without its biases no relevance may be lost.

    Arguments are those of :func:`relevance`; the biases are put back afterwards.

    Raises:
        XrayError: Relevance is lost, so that the network computes something outside of its layers; or as in
            :func:`relevance`.
    """
    with _without_biases(discriminator):
        found = relevance(discriminator, judge, image, epsilon=torch.finfo(image.dtype).tiny)
    missing = -found.logit - found.pixels.sum((1, 2, 3)) - found.elsewhere
    scale = found.logit.abs() + found.pixels.abs().sum((1, 2, 3)) * _LOST
    if not bool((missing.abs() <= _LOST * scale).all()):
        raise XrayError(
            "LRP does not hold for this discriminator, which computes sums or products outside of its layers; "
            "use --method grad_cam."
        )


@contextmanager
def _rules(network: nn.Module, epsilon: float) -> Iterator[list[Tensor]]:
    """Lets gradients through a network carry relevance.

    Yields:
        Inputs besides the image; filled while the network is called.
    """
    others: list[Tensor] = []

    def cut_inputs(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (arguments[0], *(_cut(value, others) for value in arguments[1:]))

    def rule(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        passed: Tensor
        if isinstance(layer, LINEAR):
            passed = _EpsilonRule.apply(arguments[0], _linear(layer, arguments[0].detach()), epsilon)
        elif isinstance(layer, ACTIVATIONS):
            passed = _PassOn.apply(arguments[0], output.detach())
        else:
            passed = _cut(output, others)
        return passed

    with ExitStack() as stack:
        stack.callback(network.register_forward_pre_hook(cut_inputs).remove)
        for name, layer in _layers(network):
            if isinstance(layer, (*LINEAR, *ACTIVATIONS, MinibatchDiscrimination)):
                stack.callback(layer.register_forward_hook(rule).remove)
            elif not isinstance(layer, ROUTING):
                raise XrayError(
                    f"LRP has no rule for {type(layer).__name__} (the discriminator's layer {name});"
                    " use --method grad_cam."
                )
        yield others


def _cut(value: Tensor, others: list[Tensor]) -> Tensor:
    """Makes a tensor an input of its own, at which relevance ends."""
    others.append(value.detach().requires_grad_(True))
    return others[-1]


def _layers(network: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers that rules are for, and those without parts, each by its dotted name."""
    if isinstance(network, (SelfAttention, MinibatchDiscrimination)) or not any(True for _ in network.children()):
        if not isinstance(network, (nn.Sequential, nn.ModuleList)):
            yield name, network
        return
    for child, part in network.named_children():
        yield from _layers(part, f"{name}.{child}".lstrip("."))


def _linear(layer: nn.Module, features: Tensor) -> Layer:
    """A layer as a function that is linear but for its biases."""
    if not isinstance(layer, SelfAttention):
        function: Layer = layer.forward
        return function
    with torch.no_grad():
        weights = layer.weights(features)

    def attend(inputs: Tensor) -> Tensor:
        value = layer.value.forward(inputs)
        value = max_pool2d(value, layer.pooling) if layer.pooling > 1 else value
        attended = (weights @ value.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(inputs.shape)
        return layer.gamma * attended + inputs

    return attend


class _EpsilonRule(torch.autograd.Function):
    """Forward a linear layer; backward ``x * W^T (R / (z + epsilon sign z))`` in place of a gradient."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, layer: Layer, epsilon: float) -> Tensor:
        with torch.enable_grad():
            ctx.inputs = inputs.detach().requires_grad_(True)
            ctx.outputs = layer(ctx.inputs)
        ctx.epsilon = epsilon
        outputs: Tensor = ctx.outputs.detach().clone()
        return outputs

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None, None]:
        outputs = ctx.outputs.detach()
        share = relevance / (outputs + torch.where(outputs < 0, -ctx.epsilon, ctx.epsilon))
        share = torch.where(outputs == 0, 0, share)  # there is nothing to explain there
        (gradient,) = torch.autograd.grad(ctx.outputs, ctx.inputs, share)
        return ctx.inputs.detach() * gradient, None, None


class _PassOn(torch.autograd.Function):
    """Forward an activation's output; backward relevance as it is."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, outputs: Tensor) -> Tensor:
        del ctx, inputs
        return outputs.clone()

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor, None]:
        del ctx
        return relevance, None


@contextmanager
def _without_biases(network: nn.Module) -> Iterator[None]:
    """Sets all biases to 0 for a while."""
    biases = [weight for name, weight in network.named_parameters() if name.rpartition(".")[2] == "bias"]
    before = [bias.detach().clone() for bias in biases]
    with torch.no_grad():
        for bias in biases:
            bias.zero_()
        try:
            yield
        finally:
            for bias, value in zip(biases, before, strict=True):
                bias.copy_(value)


def plain_copy(network: nn.Module) -> nn.Module:
    """Copies a network for evaluation, with the same output up to rounding.

    Spectral normalisation and other parametrisations are computed once and for all; batch normalisation that follows a
    convolution or a linear layer directly, in a ``Sequential``, is made part of it; nothing is changed in place.
    """
    copy = deepcopy(network).eval()
    for module in list(copy.modules()):
        if is_parametrized(module):
            _settle(module)
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]  # a module's attributes are untyped
    for module in copy.modules():
        if isinstance(module, nn.Sequential):
            _fuse(module)
    return copy


def _settle(module: nn.Module) -> None:
    """Puts plain parameters in the place of parametrised ones.

    torch's ``remove_parametrizations`` changes the module's class, which a copy shares with its original.
    """
    parametrizations = module.get_submodule("parametrizations")
    values = {name: getattr(module, name).detach().clone() for name, _ in parametrizations.named_children()}
    module.__class__ = type_before_parametrizations(module)
    del module.parametrizations
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value))


def _fuse(layers: nn.Sequential) -> None:
    """Makes batch normalisation part of the layer before it; an identity takes its place."""
    for (name, layer), (after, norm) in pairwise(list(layers.named_children())):
        if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            continue
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            fused: nn.Module = fuse_conv_bn_eval(layer, norm)
        elif isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            fused = fuse_conv_bn_eval(layer, norm, transpose=True)
        elif isinstance(layer, nn.Linear):
            fused = fuse_linear_bn_eval(layer, norm)
        else:
            continue
        layers._modules[name], layers._modules[after] = fused, nn.Identity()
