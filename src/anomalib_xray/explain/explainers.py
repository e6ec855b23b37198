"""The methods by which a discriminator's logit is explained, each as a function from image to heat map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        discriminator: The network that tells real images from generated ones.
        discriminator_logit: Its logit of images ``(N, 1, S, S)`` in (-1, 1), higher = more real, ``(N,)``.
    """

    discriminator: nn.Module
    discriminator_logit: Judge


class Explanation(NamedTuple):
    """Answer of a method for a batch.

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
    """Explains what a model's discriminator thinks of images.

    Args:
        model: A model with a discriminator of images, in evaluation; it stays as it is.
        method: The method.
        layer: Dotted name of the layer that Grad-CAM looks at; the last feature map if left out.

    Attributes:
        network: The model's network in plain layers.
        layer: Dotted name of the layer, ``None`` for methods without one.
        padding: Where the model's pre-processor puts a radiograph in the square.

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
        grey = image.mean(1, keepdim=True)
        logit, raw, figures = _METHODS[self.method](cast("JudgingNetwork", network), to_tanh_range(grey), self.layer)
        return Explanation(logit, self.smooth(raw, foreground(grey)), figures)

    def heat(self, network: nn.Module, image: Tensor) -> Tensor:
        """The heat map alone, see :meth:`__call__`."""
        return self(network, image).heat


_Found = tuple[Tensor, Tensor, dict[str, Tensor]]


def _by_grad_cam(network: JudgingNetwork, image: Tensor, layer: str | None) -> _Found:
    assert layer is not None  # chosen when the explainer was made
    target = cast("nn.Module", network).get_submodule(layer)
    return _logit(network, image), grad_cam_map(network.discriminator_logit, target, image), {}


def _by_lrp(network: JudgingNetwork, image: Tensor, _: str | None) -> _Found:
    found = relevance(network.discriminator, network.discriminator_logit, image)
    figures = {"relevance_pixels": found.pixels.sum((1, 2, 3)), "relevance_elsewhere": found.elsewhere}
    return found.logit, found.pixels, figures


def _by_rollout(network: JudgingNetwork, image: Tensor, _: str | None) -> _Found:
    shares = attention_rollout(network.discriminator, network.discriminator_logit, image)
    # In units of what each place would have if all were looked at alike.
    relative = shares * shares.shape[2] * shares.shape[3]
    return _logit(network, image), interpolate(relative, image.shape[2:], mode="bilinear"), {}


_METHODS: dict[Method, Callable[[JudgingNetwork, Tensor, str | None], _Found]] = {
    "grad_cam": _by_grad_cam,
    "lrp": _by_lrp,
    "rollout": _by_rollout,
}


@torch.no_grad()
def _logit(network: JudgingNetwork, image: Tensor) -> Tensor:
    return network.discriminator_logit(image)


def _chosen_layer(network: JudgingNetwork, example: Tensor, layer: str | None) -> str:
    """The layer that was asked for, or the last that gives a feature map."""
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
    """Computes how much each place reaches the last self-attention layer, on average over its places.

    Source: Abnar & Zuidema 2020 (2005.00928), section 3: the attention of all layers is multiplied, each mixed with the
    identity for the residual connection. It says what is looked at; it knows no score and no sign.

    Three things differ in convolutional networks:

    * Keys are max-pooled, each channel from a place of its own. A pooled key's attention is divided equally among the
      places that it was pooled from.
    * Layers have feature maps of different sizes. A place of a smaller map stands for the block of the larger one over
      which it lies; what the convolutions between them weigh is not looked at.
    * The share of the attention is not always 1/2 but ``|y - x| / (|y - x| + |x|)`` at each place, x and y the features
      before and after the layer: a layer whose strength gamma is close to 0 adds next to nothing.

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
