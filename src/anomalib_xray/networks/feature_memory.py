"""Memory of a network's features of normal images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.places import at_pixels, shown_places

CHUNK = 4096
"""Stored features that are compared at a time: no large matrix stands in memory, and an exported graph stays small."""

LEAST = 0.01
"""Smallest standard deviation of a channel, as a share of the largest."""


class FeatureMemory(nn.Module):
    """Stored features of normal images, and the distance of an image's features from the closest of them.

    A feature is the vector of a feature map's channels at one position of the foreground. Wherever in a training image
    it was, it may be compared with any position: hands lie differently in every radiograph. Nearest stored features as
    in Roth et al. 2022 (2106.08265, PatchCore), there of a network trained on photographs and without whitening.

    Args:
        channels: Channels C of the feature map.
        references: Number M of features that are stored, a random choice out of all.

    Raises:
        XrayError: No stored feature.

    Example:
        >>> memory, mask = FeatureMemory(channels=2, references=4), torch.ones(1, 1, 4, 4)
        >>> seen = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).reshape(1, 2, 1, 2).repeat(1, 1, 2, 1)
        >>> memory.store(seen, mask, torch.Generator())
        >>> float(memory(seen, mask).max()), bool(memory(seen + 1, mask).min() > 1)
        (0.0, True)
    """

    references: Tensor
    scale: Tensor
    filled: Tensor

    def __init__(self, channels: int, references: int) -> None:
        super().__init__()
        if references < 1:
            raise XrayError(f"references is {references}, but features are compared with at least 1 stored one.")
        self.register_buffer("references", torch.zeros(references, channels))
        self.register_buffer("scale", torch.ones(channels))
        self.register_buffer("filled", torch.zeros(()))

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Measures the distance at every pixel, 0 everywhere as long as nothing is stored.

        Args:
            features: Features of images, ``(N, C, h, w)``.
            mask: 1 in the foreground and 0 outside, ``(N, 1, H, W)``, H and W multiples of h and w.

        Returns:
            Mean squared difference from the closest stored feature, each channel in units of its standard deviation in
            training images, ``(N, 1, H, W)``.
        """
        vectors = features.permute(0, 2, 3, 1).flatten(0, 2) * self.scale
        length = vectors.square().sum(1, keepdim=True)
        closest = [
            (length + some.square().sum(1) - 2 * vectors @ some.T).amin(1)
            for some in torch.split(self.references, CHUNK)
        ]
        distance = torch.stack(closest).amin(0).clamp(min=0) * self.filled / features.shape[1]
        return at_pixels(distance.reshape(features.shape[0], 1, *features.shape[2:]), mask)

    @torch.no_grad()
    def store(self, features: Tensor, mask: Tensor, generator: torch.Generator) -> None:
        """Replaces the stored features by some of normal images ``(N, C, h, w)`` in their foreground ``(N, 1, H, W)``.

        ``generator`` chooses among them, on the CPU.
        """
        vectors = features.permute(0, 2, 3, 1)[shown_places(features, mask).squeeze(1) > 0]
        if not len(vectors):
            return
        deviation = vectors.std(0, correction=0)
        # A channel that hardly varies must not outweigh all others.
        scale = 1 / deviation.clamp(min=max(LEAST * float(deviation.max()), torch.finfo(vectors.dtype).eps))
        count = len(self.references)
        # Each feature is taken as often as any other, where there are fewer of them than places.
        order = torch.randperm(len(vectors), generator=generator).repeat(-(-count // len(vectors)))[:count]
        self.references.copy_(vectors[order.to(vectors.device)] * scale)
        self.scale.copy_(scale)
        self.filled.fill_(1)
