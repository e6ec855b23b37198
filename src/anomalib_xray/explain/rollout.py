"""Which places of an image reach a discriminator through its self-attention, by attention rollout.

Source: Abnar & Zuidema 2020 (2005.00928), section 3: the attention of all layers is multiplied, each mixed with the
identity for the residual connection. It says what is looked at; it knows no score and no sign.

Three things differ in convolutional networks:

* Keys are max-pooled, each channel from a place of its own. A pooled key's attention is divided equally among the
  places that it was pooled from.
* Layers have feature maps of different sizes. A place of a smaller map stands for the block of the larger one over
  which it lies; what the convolutions between them weigh is not looked at.
* The share of the attention is not always 1/2 but ``|y - x| / (|y - x| + |x|)`` at each place, x and y the features
  before and after the layer: a layer whose strength gamma is close to 0 adds next to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anomalib_xray.components.attention import SelfAttention
from anomalib_xray.components.attention_maps import recorded_inputs
from anomalib_xray.errors import XrayError
from anomalib_xray.explain.grad_cam import Judge


@torch.no_grad()
def attention_rollout(network: nn.Module, judge: Judge, image: Tensor) -> Tensor:
    """Computes how much each place reaches the last self-attention layer, on average over its places.

    Args:
        network: A network on the way down, such as a discriminator or its trunk, in evaluation.
        judge: What calls it.
        image: Images as the discriminator takes them, ``(N, 1, S, S)`` in (-1, 1).

    Returns:
        Shares that add up to 1, ``(N, 1, h, w)``, of the first self-attention layer's places.

    Raises:
        XrayError: The network has no self-attention, or its feature maps grow.
    """
    with recorded_inputs(network) as inputs:
        judge(image)
    layers = [
        (layer, inputs[name])
        for name, layer in network.named_modules()
        if isinstance(layer, SelfAttention) and name in inputs
    ]
    if not layers:
        raise XrayError("The discriminator has no self-attention that could be rolled out; use --method grad_cam.")
    sizes = [(features.shape[2], features.shape[3]) for _, features in layers]
    if sizes != sorted(sizes, reverse=True):
        raise XrayError("Attention rollout needs feature maps that shrink from layer to layer; use --method grad_cam.")
    return roll_out([(mixing(layer, features), size) for (layer, features), size in zip(layers, sizes, strict=True)])


def mixing(layer: SelfAttention, features: Tensor, share: float | None = None) -> Tensor:
    """Computes how much each place of a layer's output takes from each place of its input.

    Args:
        layer: The layer.
        features: Its input, ``(N, C, h, w)``.
        share: Share of the attention, 1/2 in the publication; measured at each place if left out.

    Returns:
        At least 0, rows add up to 1, ``(N, h * w, h * w)``.
    """
    height, width = features.shape[2:]
    keys = height // layer.pooling, width // layer.pooling
    pooled = layer.weights(features).reshape(len(features), height * width, *keys)
    spread = pooled.repeat_interleave(layer.pooling, 2).repeat_interleave(layer.pooling, 3) / layer.pooling**2
    attention = spread.flatten(2)
    added = (layer(features) - features).norm(dim=1).flatten(1)
    kept = features.norm(dim=1).flatten(1)
    weight = added / (added + kept).clamp(min=torch.finfo(features.dtype).tiny)
    weight = (weight if share is None else torch.full_like(weight, share)).unsqueeze(2)
    itself = torch.eye(height * width, device=features.device, dtype=features.dtype)
    mixed: Tensor = weight * attention + (1 - weight) * itself
    return mixed


def roll_out(layers: Sequence[tuple[Tensor, tuple[int, int]]]) -> Tensor:
    """Multiplies the layers' mixing matrices.

    Args:
        layers: From the first to the last: matrix ``(N, h * w, h * w)``, rows adding up to 1, and ``(h, w)``.

    Returns:
        Mean over the last layer's places, ``(N, 1, h, w)`` with the first layer's size; adds up to 1.
    """
    last, (height, width) = layers[-1]
    reaching = last.mean(1)
    for matrix, size in reversed(layers[:-1]):
        if size != (height, width):
            reaching = _onto_blocks(reaching.reshape(-1, height, width), size)
            height, width = size
        reaching = (reaching.unsqueeze(1) @ matrix).squeeze(1)
    return reaching.reshape(len(reaching), 1, height, width)


def _onto_blocks(shares: Tensor, size: tuple[int, int]) -> Tensor:
    """Divides the share of each place ``(N, h, w)`` among the places of its block of a larger map, ``(N, H * W)``."""
    rows, columns = size[0] // shares.shape[1], size[1] // shares.shape[2]
    spread = shares.repeat_interleave(rows, 1).repeat_interleave(columns, 2) / (rows * columns)
    return spread.flatten(1)
