"""A network as a sequence of plain layers, which computes the same: what rules and randomisation work on."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

Convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TransposedConvolution = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BatchNorm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def plain_copy(network: nn.Module) -> nn.Module:
    """Copies a network for evaluation: weights stand as they act, and nothing is changed in place.

    Spectral normalisation and other parametrisations are computed once and for all; batch normalisation that follows a
    convolution or a linear layer directly, in a ``Sequential``, is made part of it.

    Args:
        network: The network; it stays as it is.

    Returns:
        The copy, in evaluation, with the same output up to rounding.
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
        if not isinstance(norm, BatchNorm):
            continue
        if isinstance(layer, Convolution):
            fused: nn.Module = fuse_conv_bn_eval(layer, norm)
        elif isinstance(layer, TransposedConvolution):
            fused = fuse_conv_bn_eval(layer, norm, transpose=True)
        elif isinstance(layer, nn.Linear):
            fused = fuse_linear_bn_eval(layer, norm)
        else:
            continue
        layers._modules[name], layers._modules[after] = fused, nn.Identity()
