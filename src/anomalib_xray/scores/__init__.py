"""Named anomaly scores: pure functions, and the table that they are written to."""

from anomalib_xray.scores.anomaly_map import SmoothedErrorMap
from anomalib_xray.scores.discriminator import discriminator_score
from anomalib_xray.scores.foreground import foreground
from anomalib_xray.scores.output import ScoredBatch
from anomalib_xray.scores.reconstruction import (
    RECONSTRUCTION_SCORES,
    masked_mean,
    masked_top_k_mean,
    reconstruction_scores,
)
from anomalib_xray.scores.table import ScoreTable, score_metrics

__all__ = [
    "RECONSTRUCTION_SCORES",
    "ScoreTable",
    "ScoredBatch",
    "SmoothedErrorMap",
    "discriminator_score",
    "foreground",
    "masked_mean",
    "masked_top_k_mean",
    "reconstruction_scores",
    "score_metrics",
]
