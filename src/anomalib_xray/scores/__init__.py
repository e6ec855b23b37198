"""Named anomaly scores: pure functions, and the table that they are written to."""

from anomalib_xray.scores.anogan import anogan_score
from anomalib_xray.scores.anomaly_map import SmoothedErrorMap
from anomalib_xray.scores.discriminator import discriminator_difference, discriminator_score, mean_probability_score
from anomalib_xray.scores.feature_matching import feature_matching, feature_matching_signed
from anomalib_xray.scores.foreground import foreground
from anomalib_xray.scores.gradient import error_gradient
from anomalib_xray.scores.latent import kl_divergence, kld_score, latent_distance
from anomalib_xray.scores.output import ScoredBatch
from anomalib_xray.scores.perceptual import enlarged_mean, relative_feature_errors
from anomalib_xray.scores.reconstruction import (
    RECONSTRUCTION_SCORES,
    check_top_k,
    error_scores,
    masked_mean,
    masked_top_k_mean,
    reconstruction_errors,
    reconstruction_scores,
)
from anomalib_xray.scores.scorer import EXTRA_SCORES, PERCEPTUAL_SCORES, ReconstructionScorer
from anomalib_xray.scores.structural import dissimilarity
from anomalib_xray.scores.table import ScoreTable, score_metrics

__all__ = [
    "EXTRA_SCORES",
    "PERCEPTUAL_SCORES",
    "RECONSTRUCTION_SCORES",
    "ReconstructionScorer",
    "ScoreTable",
    "ScoredBatch",
    "SmoothedErrorMap",
    "anogan_score",
    "check_top_k",
    "discriminator_difference",
    "discriminator_score",
    "dissimilarity",
    "enlarged_mean",
    "error_gradient",
    "error_scores",
    "feature_matching",
    "feature_matching_signed",
    "foreground",
    "kl_divergence",
    "kld_score",
    "latent_distance",
    "masked_mean",
    "masked_top_k_mean",
    "mean_probability_score",
    "reconstruction_errors",
    "reconstruction_scores",
    "relative_feature_errors",
    "score_metrics",
]
