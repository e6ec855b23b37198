"""What a model's torch module returns in evaluation."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ScoredBatch(NamedTuple):
    """Scores and map of a batch; its first four fields are anomalib's ``InferenceBatch``.

    Attributes:
        pred_score: Chosen score, higher = more anomalous, ``(N,)``.
        pred_label: Always ``None``; the post-processor decides.
        anomaly_map: Anomaly of each pixel, at least 0, exactly 0 outside the foreground, ``(N, H, W)``, or ``None``.
        pred_mask: Always ``None``; the post-processor decides.
        scores: Every named score, higher = more anomalous, each ``(N,)``.
    """

    pred_score: Tensor
    pred_label: None
    anomaly_map: Tensor | None
    pred_mask: None
    scores: dict[str, Tensor]

    @classmethod
    def of(cls, scores: dict[str, Tensor], chosen: str, anomaly_map: Tensor | None) -> ScoredBatch:
        """Builds the output with ``scores[chosen]`` as the predicted score."""
        return cls(scores[chosen], None, anomaly_map, None, scores)
