"""A trained encoder and the detectors of its codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from anomalib_xray.detectors import DetectorBank
from anomalib_xray.errors import XrayError
from anomalib_xray.networks.places import at_pixels, shown_places
from anomalib_xray.scores import ScoredBatch, SmoothedErrorMap, foreground, masked_top_k_mean

Pooling = Literal["average", "max", "tiles", "flatten", "places"]


def pooled(features: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Makes a vector of a feature map.

    Args:
        features: ``(N, C, h, w)``, or ``(N, C)``, which is left as it is.
        mask: 1 in the foreground and 0 outside, ``(N, 1, S, S)``.
        pooling: ``average`` or ``max`` over the places with foreground; ``tiles``, the average of each of four tiles,
            see :func:`tiles`; or ``flatten``.

    Returns:
        ``(N, C)``, with ``tiles`` ``(N, 4 C)`` by rows, with ``flatten`` ``(N, C h w)``.
    """
    if features.ndim == 2 or pooling == "flatten":
        return features.flatten(1)
    shown = shown_places(features, mask)
    if pooling == "max":
        lowest = features.amin((2, 3), keepdim=True)
        return torch.where(shown > 0, features, lowest).amax((2, 3))
    rows, columns = ([slice(None)] if pooling == "average" else tiles(side) for side in features.shape[2:])
    parts = [(features[:, :, row, column], shown[:, :, row, column]) for row in rows for column in columns]
    return torch.cat([(part * seen).sum((2, 3)) / seen.sum((2, 3)).clamp(min=1) for part, seen in parts], dim=1)


def tiles(side: int) -> list[slice]:
    """Both overlapping tiles along a side, two thirds of it each, so that what lies in the middle is in one as a whole.

    >>> tiles(12)
    [slice(0, 8, None), slice(4, 12, None)]
    """
    length = -(-2 * side // 3)
    return [slice(0, length), slice(side - length, side)]


def joined(features: Sequence[Tensor]) -> Tensor:
    """Puts feature maps ``(N, C, h, w)`` on top of each other, the smaller ones enlarged to the sides of the largest.

    Source: Roth et al. 2022 (2106.08265).

    Raises:
        XrayError: Some are vectors.
    """
    if any(some.ndim != 4 for some in features):
        raise XrayError(
            "The codes of this encoder have no places: set pooling to average, which leaves them as they are."
        )
    side = max(some.shape[-1] for some in features)
    grown = [
        some if some.shape[-1] == side else interpolate(some, scale_factor=side // some.shape[-1], mode="bilinear")
        for some in features
    ]
    return torch.cat(grown, dim=1)


class LatentModel(nn.Module):
    """Codes of images, and detectors of unusual ones.

    Args:
        encoder: Turns images ``(N, 1, S, S)`` into a list of feature maps or codes; may be set later.
        detectors: Scores vectors.
        pooling: Reduction of a feature map to a vector, or ``places``: each place is a vector of its own.
        score: Name of the detector whose score becomes the predicted score.
        top_k: As in ``LatentDetector``.
        map_sigma: As in ``LatentDetector``.
    """

    def __init__(
        self,
        encoder: nn.Module | None,
        detectors: DetectorBank,
        pooling: Pooling,
        score: str,
        top_k: float = 0.03,
        map_sigma: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.detectors = detectors
        self.pooling = pooling
        self.score = score
        self.top_k = top_k
        self.anomaly_map = SmoothedErrorMap(map_sigma)

    def vectors(self, image: Tensor) -> Tensor:
        """Vectors of images ``(N, 1, S, S)`` in [0, 1] that the detectors are fitted to.

        They are ``(N, D)``, or with ``places`` those of all places with foreground, ``(P, D)``.
        """
        features, mask = self._features(image), foreground(image)
        if self.pooling != "places":
            return torch.cat([pooled(some, mask, self.pooling) for some in features], dim=1)
        joint = joined(features)
        return joint.permute(0, 2, 3, 1)[shown_places(joint, mask).squeeze(1) > 0]

    def fit(self, vectors: Tensor) -> None:
        """Fits the detectors to the vectors of normal images, ``(N, D)``."""
        self.detectors.fit(vectors)

    def forward(self, batch: Tensor) -> ScoredBatch:
        """Scores pre-processed images ``(N, 3, S, S)`` in [0, 1]; only with ``places`` there is a map."""
        image = batch.mean(1, keepdim=True)
        if self.pooling == "places":
            return self._score_places(image)
        scores: dict[str, Tensor] = self.detectors(self.vectors(image))
        return ScoredBatch.of(scores, self.score, None)

    def _features(self, image: Tensor) -> list[Tensor]:
        """Feature maps or codes of images."""
        if self.encoder is None:
            raise XrayError(
                "LatentDetector has no encoder yet: train it, which reads the one of checkpoint, or load it."
            )
        features: list[Tensor] = self.encoder(image)
        return features

    def _score_places(self, image: Tensor) -> ScoredBatch:
        """Scores every place of images ``(N, 1, S, S)``."""
        mask, joint = foreground(image), joined(self._features(image))
        shown = shown_places(joint, mask)
        by_name: dict[str, Tensor] = self.detectors(joint.permute(0, 2, 3, 1).flatten(0, 2))
        # Within a boundary nothing is unusual, however deep.
        maps = {name: found.clamp(min=0).reshape(shown.shape) for name, found in by_name.items()}
        scores = {name: masked_top_k_mean(found, shown, self.top_k) for name, found in maps.items()}
        error = at_pixels(maps[self.score], mask)
        return ScoredBatch.of(scores, self.score, self.anomaly_map(error, mask))
