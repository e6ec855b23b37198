"""The parameter randomisation test: does an explanation depend on what a discriminator has learnt?

Source: Adebayo et al. 2018 (1810.03292), section 3.1. Layer after layer, from the logit down to the image, weights are
replaced by random ones; an explanation that stays as it was does not explain the network but shows edges of the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr  # type: ignore[import-untyped]  # scipy has no stubs
from torch import Tensor, nn

from anomalib_xray.scores import dissimilarity, foreground, masked_mean

UNCHANGED = 0.5
"""Rank correlation with the map of the trained network from which on a map of a random one counts as the same."""

Explain = Callable[[nn.Module, Tensor], Tensor]
"""A network and one pre-processed image ``(1, 3, S, S)`` to the heat map ``(1, S, S)``."""


class Stage(NamedTuple):
    """Effect of randomisation down to a layer on the maps.

    Attributes:
        layer: The lowest layer that is random; all above it are random too.
        spearman: Magnitude of the rank correlation with the original maps over the foreground, mean over the images:
            a map turned into its opposite is still a map of the same edges.
        ssim: Structural similarity of the two, each divided by its largest magnitude; mean over foreground and images.
    """

    layer: str
    spearman: float
    ssim: float


def randomisation_test(
    network: nn.Module, judge: nn.Module, explain: Explain, images: Sequence[Tensor], seed: int = 0
) -> Iterator[Stage]:
    """Randomises a discriminator from the top and compares the heat maps.

    Args:
        network: A model's network in plain layers; its discriminator is random afterwards.
        judge: Its discriminator.
        explain: The method.
        images: Pre-processed images, ``(1, 3, S, S)`` in [0, 1].
        seed: Seed of the random weights.

    Yields:
        A stage for each layer with weights, from the top.
    """
    generator = torch.Generator().manual_seed(seed)
    original = [explain(network, image) for image in images]
    for name, layer in reversed(weighted_layers(judge)):
        randomise(layer, generator)
        pairs = zip(original, (explain(network, image) for image in images), images, strict=True)
        found = np.array([similarity(*pair) for pair in pairs])
        yield Stage(name, float(np.abs(found[:, 0]).mean()), float(found[:, 1].mean()))


def weighted_layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers that have weights of their own, by dotted name, in the order of the network."""
    return [
        (name, layer) for name, layer in network.named_modules() if any(True for _ in layer.parameters(recurse=False))
    ]


@torch.no_grad()
def randomise(layer: nn.Module, generator: torch.Generator) -> None:
    """Replaces a layer's own weights by normal ones of the same magnitude, so that no signal grows or vanishes."""
    for weight in layer.parameters(recurse=False):
        magnitude = weight.square().mean().sqrt()
        weight.copy_(torch.randn(weight.shape, generator=generator, dtype=weight.dtype) * magnitude.cpu())


def similarity(one: Tensor, other: Tensor, image: Tensor) -> tuple[float, float]:
    """Compares two heat maps ``(1, S, S)`` of a pre-processed image ``(1, 3, S, S)`` over its foreground.

    Returns:
        Spearman's rank correlation and SSIM, each 1 for the same map; a correlation of 0 where a map is constant.
    """
    mask = foreground(image.mean(1, keepdim=True))
    shown = mask[0, 0] > 0
    values, others = one[0][shown].numpy(), other[0][shown].numpy()
    varied = len(values) > 0 and np.ptp(values) > 0 and np.ptp(others) > 0
    correlation = float(spearmanr(values, others).statistic) if varied else 0.0
    scaled, other_scaled = (_scaled(heat) for heat in (one, other))
    different = masked_mean(dissimilarity(scaled, other_scaled), mask)
    return correlation, 1 - 2 * float(different)


def _scaled(heat: Tensor) -> Tensor:
    """A map divided by its largest magnitude, ``(1, 1, S, S)``."""
    return (heat / heat.abs().max().clamp(min=torch.finfo(heat.dtype).tiny)).unsqueeze(1)


def is_sane(stages: Sequence[Stage]) -> bool:
    """Whether maps of the wholly random discriminator differ from the original ones."""
    return stages[-1].spearman < UNCHANGED
