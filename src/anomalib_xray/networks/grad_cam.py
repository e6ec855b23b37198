"""Grad-CAM of a discriminator: the places of a radiograph that make it look unreal.

Source: Selvaraju et al. 2017 (1610.02391), section 3, equations 1 and 2; there of a class, here of minus the
discriminator's logit. The logit is taken rather than the score ``-log D``, because the gradient of the latter vanishes
where the discriminator is sure of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from anomalib_xray.errors import XrayError

Judge = Callable[[Tensor], Tensor]
"""A discriminator: images ``(N, 1, S, S)`` in (-1, 1) to logits, higher = more real, ``(N,)``."""

GRAD_CAM = "grad_cam"
"""Value of the setting ``anomaly_map``, and name of the method."""


def grad_cam(judge: Judge, layer: nn.Module, image: Tensor) -> Tensor:
    """Maps the features of a layer that speak against an image's being real.

    ``relu(sum_c a_c F_c)`` with the features F of the layer and ``a_c`` the mean over all places of
    ``d(-logit) / dF_c``. Each image has its own map, whatever the rest of the batch; it works within
    ``torch.inference_mode`` as well, where no gradient is recorded otherwise.

    Args:
        judge: The discriminator, in evaluation.
        layer: The part of it whose output is used, a feature map ``(N, C, h, w)``.
        image: Images as the discriminator takes them, ``(N, 1, S, S)`` in (-1, 1).

    Returns:
        At least 0, higher = looks more abnormal, ``(N, 1, h, w)``.

    Raises:
        XrayError: The layer gives no feature map, is not used, or nothing that follows depends on it.

    >>> layer = nn.Conv2d(1, 4, 3, stride=2, padding=1)
    >>> grad_cam(lambda image: layer(image).mean((1, 2, 3)), layer, torch.rand(2, 1, 8, 8)).shape
    torch.Size([2, 1, 4, 4])
    """
    with torch.inference_mode(False), torch.enable_grad(), _beginning_at(layer) as outputs:
        logits = judge(image.detach().clone())
        if len(outputs) != 1 or outputs[0].dim() != 4:
            raise XrayError("Grad-CAM needs a layer that is used once and gives a feature map; name another --layer.")
        (features,) = outputs
        (gradient,) = torch.autograd.grad(-logits.sum(), features, allow_unused=True)
    if gradient is None:
        raise XrayError("The discriminator's logit does not depend on the chosen layer; name another --layer.")
    weights = gradient.mean((2, 3), keepdim=True)
    return (weights * features.detach()).sum(1, keepdim=True).relu()


def grad_cam_map(judge: Judge, layer: nn.Module, image: Tensor) -> Tensor:
    """The map of :func:`grad_cam` enlarged to the images, ``(N, 1, S, S)``."""
    enlarged: Tensor = interpolate(grad_cam(judge, layer, image), image.shape[2:], mode="bilinear")
    return enlarged


def check_map(chosen: str, choices: Sequence[str]) -> None:
    """Refuses a value of a model's setting ``anomaly_map`` that the model does not have."""
    if chosen not in choices:
        raise XrayError(f"anomaly_map is {chosen!r}, but the model has {' and '.join(choices)}; choose one of them.")


def feature_maps(network: nn.Module, judge: Judge, image: Tensor) -> dict[str, tuple[int, ...]]:
    """Lists the layers of a discriminator that give a feature map when ``judge`` calls it.

    Returns:
        Channels, height and width of each layer's output by its dotted name, in the order of their use; maps of 1 x 1
        are vectors and left out.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, _: nn.Module, __: tuple[object, ...], output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and min(output.shape[2:]) > 1:
            shapes[name] = tuple(output.shape[1:])

    with ExitStack() as hooks, torch.no_grad():
        for name, layer in network.named_modules():
            if name:
                hooks.enter_context(layer.register_forward_hook(partial(note, name)))
        judge(image)
    return shapes


@contextmanager
def _beginning_at(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Lets the graph of gradients begin at a layer's outputs, which are yielded, so that nothing before is recorded."""
    outputs: list[Tensor] = []

    def hook(_: nn.Module, __: tuple[object, ...], output: Tensor) -> Tensor:
        outputs.append(output.detach().requires_grad_(True))
        return outputs[-1].clone()  # what follows may change its input in place

    with layer.register_forward_hook(hook):
        yield outputs
