"""An encoder that others trained, and the detectors of its codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anomalib_xray.detectors import DetectorBank
from anomalib_xray.errors import XrayError
from anomalib_xray.scores import ScoredBatch, SmoothedErrorMap, foreground, masked_top_k_mean
from anomalib_xray_plugins.latent_detector.pooling import Pooling, enlarged, joined, pooled, shown_places


class LatentModel(nn.Module):
    """Codes of images, and how unlike those of normal images they are.

    Args:
        encoder: Turns images ``(N, 1, S, S)`` into a list of feature maps or codes; may be set later.
        detectors: Scores vectors.
        pooling: How a feature map becomes a vector, or ``places``: each place is a vector of its own.
        score: Name of the detector whose score becomes the predicted score.
        top_k: Places with the highest scores whose mean is an image's, with ``places``: a number, or a fraction of
            those with foreground if below 1.
        map_sigma: Smoothing of the map, in pixels of the network's input, with ``places``.
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
        """What the detectors are fitted to.

        Args:
            image: ``(N, 1, S, S)`` in [0, 1].

        Returns:
            Vectors of the images, ``(N, D)``, or with ``places`` of all places with foreground, ``(P, D)``.
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
        """Scores images.

        Args:
            batch: Pre-processed images with equal channels, ``(N, 3, S, S)`` in [0, 1].

        Returns:
            A score of each detector; with ``places`` also the map of the chosen one.
        """
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
        error = enlarged(maps[self.score], shown, mask)
        return ScoredBatch.of(scores, self.score, self.anomaly_map(error, mask))
