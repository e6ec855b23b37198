"""Methods that explain a discriminator's logit, each as a function from image to heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from anomalib_xray.errors import XrayError
from anomalib_xray.explain.lrp import check_conservation, plain_copy, relevance
from anomalib_xray.networks.attention import SelfAttention
from anomalib_xray.networks.attention_maps import recorded_inputs
from anomalib_xray.networks.grad_cam import Judge, feature_maps, grad_cam_map
from anomalib_xray.networks.sagan import to_tanh_range
from anomalib_xray.scores import SmoothedErrorMap, foreground
from anomalib_xray.transforms.pre_processor import padding_of

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule

Method = Literal["grad_cam", "lrp", "rollout"]


class JudgingNetwork(Protocol):
    """Torch module that can be explained.

    Attributes:
        discriminator: Network that tells real images from generated ones.
        discriminator_logit: Its logit of images ``(N, 1, S, S)`` in (-1, 1), higher = more real, ``(N,)``.
    """

    discriminator: nn.Module
    discriminator_logit: Judge


class Explanation(NamedTuple):
    """Explanation of a batch.

    Attributes:
        logit: The discriminator's logits, higher = more real, ``(N,)``.
        heat: Smoothed heat map, higher = makes the image look more abnormal, exactly 0 outside the foreground, ``(N, S,
            S)``; of either sign with ``lrp``, else at least 0.
        figures: Further figures by name, ``(N,)`` each.
    """

    logit: Tensor
    heat: Tensor
    figures: dict[str, Tensor]


class Explainer:
    """Explains a discriminator's judgement of images.

    Args:
        model: A model with a discriminator of images, in evaluation; it is not changed.
        method: The method.
        layer: Dotted name of the layer that Grad-CAM looks at; the last feature map if left out.

    Attributes:
        network: The model's network in plain layers.
        layer: Dotted name of the layer, ``None`` for methods without one.
        padding: Place of a radiograph in the square of the model's pre-processor.

    Raises:
        XrayError: The model has no discriminator of images, no such layer, or the method does not hold for it.
    """

    def __init__(self, model: AnomalibModule, method: Method, layer: str | None = None) -> None:
        if not hasattr(model.model, "discriminator_logit"):
            raise XrayError(
                f"{model.name} has no discriminator of images: name a checkpoint of a GAN, such as AlphaGan."
            )
        if layer is not None and method != "grad_cam":
            raise XrayError(f"--layer belongs to --method grad_cam; leave it out with --method {method}.")
        self.method = method
        self.padding = padding_of(model)
        self.network = plain_copy(model.model)
        self.smooth = SmoothedErrorMap(model.hparams["map_sigma"])
        size = model.hparams["image_size"]
        example = torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0))
        judging = cast("JudgingNetwork", self.network)
        self.layer = _chosen_layer(judging, to_tanh_range(example), layer) if method == "grad_cam" else None
        if method == "lrp":
            check_conservation(judging.discriminator, judging.discriminator_logit, to_tanh_range(example))
        self(self.network, example)

    def __call__(self, network: nn.Module, image: Tensor) -> Explanation:
        """Explains pre-processed images, ``(N, 1 or 3, S, S)`` in [0, 1], by a network of plain layers."""
        judging = cast("JudgingNetwork", network)
        grey = image.mean(1, keepdim=True)
        scaled = to_tanh_range(grey)
        figures = {}
        if self.method == "lrp":
            found = relevance(judging.discriminator, judging.discriminator_logit, scaled)
            logit, raw = found.logit, found.pixels
            figures = {"relevance_pixels": raw.sum((1, 2, 3)), "relevance_elsewhere": found.elsewhere}
        else:
            with torch.no_grad():
                logit = judging.discriminator_logit(scaled)
            if self.layer is not None:
                raw = grad_cam_map(judging.discriminator_logit, network.get_submodule(self.layer), scaled)
            else:
                shares = attention_rollout(judging.discriminator, judging.discriminator_logit, scaled)
                # In units of an even share of all places.
                relative = shares * shares.shape[2] * shares.shape[3]
                raw = interpolate(relative, scaled.shape[2:], mode="bilinear")
        return Explanation(logit, self.smooth(raw, foreground(grey)), figures)

    def heat(self, network: nn.Module, image: Tensor) -> Tensor:
        """The heat map alone, see :meth:`__call__`."""
        return self(network, image).heat


def _chosen_layer(network: JudgingNetwork, example: Tensor, layer: str | None) -> str:
    """The given layer, or the last that gives a feature map."""
    shapes = feature_maps(network.discriminator, network.discriminator_logit, example)
    names = {f"discriminator.{name}": " x ".join(map(str, shape)) for name, shape in shapes.items()}
    if not names:
        raise XrayError("The discriminator has no feature map that Grad-CAM could look at.")
    if layer is None:
        return list(names)[-1]
    if layer not in names:
        choices = ", ".join(f"{name} ({shape})" for name, shape in names.items())
        raise XrayError(f"{layer!r} is no layer with a feature map; choose one of {choices}.")
    return layer


@torch.no_grad()
def attention_rollout(network: nn.Module, judge: Judge, image: Tensor) -> Tensor:
    """Computes the share of each place in the last self-attention layer, on average over its places.

    Source: Abnar & Zuidema 2020 (2005.00928), section 3: the attention of all layers is multiplied, each mixed with the
    identity for the residual connection. It shows the attention alone; it depends on no score and has no sign.

    Three things differ in convolutional networks:

    * Keys are max-pooled, each channel from a place of its own. A pooled key's attention is divided equally among the
      places that it was pooled from.
    * Layers have feature maps of different sizes. A place of a smaller map stands for the block of the larger one over
      which it lies; the weights of the convolutions between them do not count.
    * The share of the attention is not always 1/2 but ``|y - x| / (|y - x| + |x|)`` at each place, x and y the features
      before and after the layer: a layer whose strength gamma is close to 0 adds next to nothing.

    Args:
        network: A network on the way down, such as a discriminator or its trunk, in evaluation.
        judge: Function that calls it.
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
    """Computes the share of each place of a layer's input ``(N, C, h, w)`` in each place of its output.

    Args:
        layer: The layer.
        features: Its input.
        share: Share of the attention, 1/2 in the publication; measured at each place if left out.

    Returns:
        ``(N, h * w, h * w)``, at least 0; rows add up to 1.
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
    """Multiplies the layers' mixing matrices ``(N, h * w, h * w)`` of sizes ``(h, w)``, from the first to the last.

    Returns:
        Mean over the last layer's places, ``(N, 1, h, w)`` with the first layer's size; adds up to 1.

    Example:
        >>> roll_out([(torch.eye(4)[None], (2, 2)), (torch.ones(1, 1, 1), (1, 1))]).flatten()
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    last, (height, width) = layers[-1]
    reaching = last.mean(1)
    for matrix, size in reversed(layers[:-1]):
        if size != (height, width):
            # The share of each place is divided among the places of its block of the larger map.
            rows, columns = size[0] // height, size[1] // width
            blocks = reaching.reshape(-1, height, width).repeat_interleave(rows, 1).repeat_interleave(columns, 2)
            reaching = blocks.flatten(1) / (rows * columns)
            height, width = size
        reaching = (reaching.unsqueeze(1) @ matrix).squeeze(1)
    return reaching.reshape(len(reaching), 1, height, width)
