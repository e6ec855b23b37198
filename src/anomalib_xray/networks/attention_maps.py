"""Maps of a network's self-attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from anomalib_xray.networks.attention import SelfAttention
from anomalib_xray.scores import ScoredBatch, foreground

Query = Literal["anomaly", "centre"]


class AttentionMap(NamedTuple):
    """Pictures of one layer, each relative to its largest value.

    Attributes:
        looking: Attention of the chosen position to each position, ``(N, 1, S, S)`` in [0, 1].
        received: Attention that each position receives from all, ``(N, 1, S, S)`` in [0, 1].
    """

    looking: Tensor
    received: Tensor


class AttentionMaps(NamedTuple):
    """Pictures of all layers of a network.

    Attributes:
        layers: Maps by the layer's dotted name, in the order of the network's layers.
        position: Row and column of the pixel whose attention ``looking`` shows, ``(N, 2)``.
    """

    layers: dict[str, AttentionMap]
    position: Tensor


def has_attention(network: nn.Module) -> bool:
    """Whether any layer of a network is self-attention."""
    return any(isinstance(layer, SelfAttention) for layer in network.modules())


@torch.no_grad()
def attention_maps(network: nn.Module, image: Tensor, query: Query = "anomaly") -> AttentionMaps:
    """Computes the attention maps of every self-attention layer that a network uses when it scores images.

    A layer that is used several times, as an encoder that also encodes the reconstruction, is shown as it is used
    first: on the image itself.

    Args:
        network: A model's torch module, in evaluation.
        image: Pre-processed images, ``(N, 3, S, S)`` in [0, 1].
        query: Position whose attention is shown: the pixel of the highest ``anomaly``, or the foreground's ``centre``;
            also the centre where the model gives no map.
    """
    with recorded_inputs(network) as inputs:
        output: ScoredBatch = network(image)
    mask = foreground(image.mean(1, keepdim=True))
    position = centre(mask) if query == "centre" or output.anomaly_map is None else peak(output.anomaly_map)
    layers = {
        name: _maps(layer, inputs[name], position, image.shape[-1])
        for name, layer in network.named_modules()
        if isinstance(layer, SelfAttention) and name in inputs
    }
    return AttentionMaps(layers, position)


@contextmanager
def recorded_inputs(network: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Keeps the input of each self-attention layer the first time that it is used.

    Yields:
        Features ``(N, C, H, W)`` by the layer's dotted name; filled while the network is called.
    """
    inputs: dict[str, Tensor] = {}

    def keep(name: str, _: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        inputs.setdefault(name, arguments[0].detach())

    with ExitStack() as hooks:
        for name, layer in network.named_modules():
            if isinstance(layer, SelfAttention):
                hooks.enter_context(layer.register_forward_pre_hook(partial(keep, name)))
        yield inputs


def peak(anomaly_map: Tensor) -> Tensor:
    """Row and column of the largest value of each map ``(N, S, S)``, ``(N, 2)``."""
    highest = anomaly_map.flatten(1).argmax(1)
    return torch.stack([highest // anomaly_map.shape[2], highest % anomaly_map.shape[2]], dim=1)


def centre(mask: Tensor) -> Tensor:
    """Row and column of the middle of each foreground ``(N, 1, S, S)``, of the picture where there is none, ``(N, 2)``.

    The middle is the foreground's pixel that is nearest to its centre of mass: that of a hand may lie between fingers.
    """
    size = mask.shape[-1]
    line = torch.arange(size, device=mask.device, dtype=mask.dtype)
    weight = torch.where(mask.sum((2, 3), keepdim=True) > 0, mask, torch.ones_like(mask))[:, 0]
    total = weight.sum((1, 2))
    row = (weight.sum(2) * line).sum(1) / total
    column = (weight.sum(1) * line).sum(1) / total
    distance = (line[:, None] - row[:, None, None]).square() + (line - column[:, None, None]).square()
    return peak(torch.where(weight > 0, -distance, distance.new_tensor(-torch.inf)))


def _maps(layer: SelfAttention, features: Tensor, position: Tensor, size: int) -> AttentionMap:
    """The maps of one layer; image by image, because the matrix of one is large enough."""
    height, width = features.shape[2:]
    keys = (height // layer.pooling, width // layer.pooling)
    cells = position * height // size
    looking, received = [], []
    for one, (row, column) in zip(features, cells.tolist(), strict=True):
        weights = layer.weights(one[None])[0]
        looking.append(weights[row * width + column].reshape(1, *keys))
        received.append(weights.mean(0).reshape(1, *keys))
    return AttentionMap(*(_as_pictures(torch.stack(found), size) for found in (looking, received)))


def _as_pictures(weights: Tensor, size: int) -> Tensor:
    """Enlarges maps ``(N, 1, h, w)`` to ``(N, 1, S, S)`` and divides each by its largest value."""
    pictures: Tensor = interpolate(weights / weights.amax((2, 3), keepdim=True), (size, size), mode="bilinear")
    return pictures.clamp(0, 1)
