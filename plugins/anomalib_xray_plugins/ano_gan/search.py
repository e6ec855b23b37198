"""Search for the code whose generated image comes closest to a radiograph, by back-propagation.

Source: Schlegl et al. 2017 (1703.05921), section 2.2; Adam instead of plain gradient steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn, optim
from torch.nn.utils.parametrize import cached
from tqdm import tqdm  # type: ignore[import-untyped]  # it has no types

from anomalib_xray.scores import anogan_score, masked_mean

PATIENCE = 2.0
"""Seconds after which a search shows its progress."""


class Found(NamedTuple):
    """The closest generated images.

    Attributes:
        code: Their codes, ``(N, Z)``.
        image: The images, ``(N, 1, S, S)`` in [0, 1].
        residual: Mean absolute difference over the foreground, ``(N,)``.
        feature: Mean absolute difference of the features, ``(N,)``.
        loss: Weighted sum of the two, which the search minimises, ``(N,)``.
    """

    code: Tensor
    image: Tensor
    residual: Tensor
    feature: Tensor
    loss: Tensor


class CodeSearch:
    """Moves codes until the images generated from them resemble given ones.

    Minimises ``(1 - w) R + w F`` for each image on its own: R is the mean of ``|x - G(z)|`` over the foreground, F the
    mean of ``|f(x) - f(G(z))|`` over the features. The published sums rank images by their foreground's size too.

    Adam moves every number of every code on its own, so that an image's result does not depend on others that are
    searched for at the same time. Works within ``torch.inference_mode`` as well. It cannot be exported.

    Args:
        generate: Codes ``(N, Z)`` to images ``(N, 1, S, S)`` in [0, 1].
        features: Images ``(N, 1, S, S)`` in [0, 1] to features ``(N, ...)``.
        learning_rate: Learning rate of Adam.
        feature_weight: Share w of the features, 0 to 1 (0.1 as published).
    """

    def __init__(
        self,
        generate: Callable[[Tensor], Tensor],
        features: Callable[[Tensor], Tensor],
        learning_rate: float,
        feature_weight: float = 0.1,
    ) -> None:
        self.generate = generate
        self.features = features
        self.learning_rate = learning_rate
        self.feature_weight = feature_weight

    def __call__(self, image: Tensor, mask: Tensor, target: Tensor, starts: Tensor, steps: int) -> Found:
        """Searches from several codes and keeps the closest image.

        Args:
            image: Radiographs, ``(N, 1, S, S)`` in [0, 1].
            mask: 1 in the foreground and 0 outside, same shape.
            target: Features of the radiographs, ``(N, ...)``.
            starts: Codes to start from, ``(K, Z)``.
            steps: Number of steps from each.
        """
        with torch.inference_mode(False), torch.enable_grad():
            # Copies, because nothing that was made in inference mode may be part of a gradient.
            goal = (image.detach().clone(), mask.detach().clone(), target.detach().clone())
            with tqdm(
                total=steps * len(starts), desc="Searching codes", delay=PATIENCE, leave=False, disable=None
            ) as progress:
                found = self._descend(*goal, starts[0], steps, progress)
                for start in starts[1:]:
                    found = _closer(found, self._descend(*goal, start, steps, progress))
        return found

    def _descend(self, image: Tensor, mask: Tensor, target: Tensor, start: Tensor, steps: int, progress: tqdm) -> Found:
        """Searches from one code ``(Z,)``."""
        code = start.detach().clone().expand(len(image), -1).contiguous().requires_grad_(True)
        optimizer = optim.Adam([code], lr=self.learning_rate)
        for _ in range(steps):
            loss = self._compare(image, mask, target, code).loss.sum()
            (code.grad,) = torch.autograd.grad(loss, code)
            optimizer.step()
            progress.update()
        with torch.no_grad():
            return self._compare(image, mask, target, code.detach())

    def _compare(self, image: Tensor, mask: Tensor, target: Tensor, code: Tensor) -> Found:
        """Generates from codes and compares with images and their features."""
        generated = self.generate(code)
        residual = masked_mean((image - generated).abs(), mask)
        feature = (target - self.features(generated)).abs().flatten(1).mean(1)
        return Found(code, generated, residual, feature, anogan_score(residual, feature, self.feature_weight))


def _closer(one: Found, other: Found) -> Found:
    """The result with the smaller loss, for each image."""
    better = other.loss < one.loss
    pairs = zip(one, other, strict=True)
    return Found(*(torch.where(better.view(-1, *[1] * (first.dim() - 1)), second, first) for first, second in pairs))


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Keeps gradients out of networks' weights, and computes spectrally normalised weights once only.

    Leaves ``torch.inference_mode``, whose tensors may not be part of a gradient. The networks are in evaluation.
    """
    weights = [weight for network in networks for weight in network.parameters() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        with torch.inference_mode(False), cached():
            yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
