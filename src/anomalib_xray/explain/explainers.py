"""The methods by which a discriminator's logit is explained, each as a function from image to heat map."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from anomalib_xray.components.sagan import to_tanh_range
from anomalib_xray.errors import XrayError
from anomalib_xray.explain.grad_cam import Judge, feature_maps, grad_cam_map
from anomalib_xray.explain.lrp import check_conservation, relevance
from anomalib_xray.explain.plain import plain_copy
from anomalib_xray.explain.rollout import attention_rollout
from anomalib_xray.scores import SmoothedErrorMap, foreground
from anomalib_xray.transforms.pre_processor import padding_of

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule

Method = Literal["grad_cam", "lrp", "rollout"]


class JudgingNetwork(Protocol):
    """What a model's torch module must have to be explained.

    Attributes:
        discriminator: The network that tells real images from generated ones.
        discriminator_logit: Its logit of images ``(N, 1, S, S)`` in (-1, 1), higher = more real, ``(N,)``.
    """

    discriminator: nn.Module
    discriminator_logit: Judge


class Explanation(NamedTuple):
    """What a method says of a batch.

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
        self.layer = (
            _chosen_layer(_judging(self.network), to_tanh_range(example), layer) if method == "grad_cam" else None
        )
        if method == "lrp":
            check_conservation(*_parts(self.network), to_tanh_range(example))
        self(self.network, example)

    def __call__(self, network: nn.Module, image: Tensor) -> Explanation:
        """Explains a batch.

        Args:
            network: :attr:`network`, or one of its architecture in plain layers.
            image: Pre-processed images, ``(N, 1 or 3, S, S)`` in [0, 1].

        Returns:
            The explanation.
        """
        grey = image.mean(1, keepdim=True)
        logit, raw, figures = _METHODS[self.method](_judging(network), to_tanh_range(grey), self.layer)
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


def _judging(network: nn.Module) -> JudgingNetwork:
    """The network, known to have a discriminator."""
    return cast("JudgingNetwork", network)


def _parts(network: nn.Module) -> tuple[nn.Module, Judge]:
    """The discriminator and what calls it."""
    judging = _judging(network)
    return judging.discriminator, judging.discriminator_logit


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
