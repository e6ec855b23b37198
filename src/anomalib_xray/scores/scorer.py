"""Scores and map of a model: the output of its torch module, and its computation from a reconstruction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from anomalib.models.components import GaussianBlur2d
from torch import Tensor, nn

from anomalib_xray.errors import XrayError
from anomalib_xray.scores.reconstruction import (
    TOP_K,
    dissimilarity,
    error_gradient,
    error_scores,
    foreground,
    reconstruction_errors,
)


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
        """Builds the output with ``scores[chosen]`` as the predicted score.

        >>> ScoredBatch.of({"mse": torch.tensor([0.5])}, "mse", None).pred_score
        tensor([0.5000])
        """
        return cls(scores[chosen], None, anomaly_map, None, scores)


class SmoothedErrorMap(nn.Module):
    """Smooths a per-pixel error within the foreground.

    The smoothed error is divided by the smoothed foreground, so that background does not darken the foreground's edge.

    Args:
        sigma: Standard deviation of the Gaussian, in pixels of the network's input; 0 leaves the error as it is.
            (arXiv 2001.10883's code uses 5 at 512 pixels.)

    Example:
        >>> SmoothedErrorMap(sigma=2.0)(torch.rand(1, 1, 32, 32), torch.ones(1, 1, 32, 32)).shape
        torch.Size([1, 32, 32])
    """

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        self.blur = GaussianBlur2d(sigma=(sigma, sigma), channels=1) if sigma > 0 else nn.Identity()

    def forward(self, error: Tensor, mask: Tensor) -> Tensor:
        """Builds the map.

        Args:
            error: Error of each pixel, at least 0, ``(N, 1, H, W)``.
            mask: 1 in the foreground and 0 outside, ``(N, 1, H, W)``.

        Returns:
            Anomaly map, at least 0 and exactly 0 outside the foreground, ``(N, H, W)``.
        """
        weight = self.blur(mask).clamp(min=torch.finfo(mask.dtype).eps)
        smoothed: Tensor = self.blur(error * mask) / weight * mask
        return smoothed.squeeze(1)


EXTRA_ERRORS = ("ssim", "gradient")
"""Per-pixel errors that cost more than the others; their scores are computed on request."""

EXTRA_SCORES = tuple(name + ending for name in EXTRA_ERRORS for ending in ("", TOP_K))
"""Scores of ``ssim`` and ``gradient``, which cost more than the other errors and are computed on request."""

PERCEPTUAL_SCORES = ("perceptual", "perceptual" + TOP_K)
"""Scores of a scorer with a network for the error ``perceptual``."""


class ReconstructionScorer(nn.Module):
    """Computes the scores and the map of a model that reconstructs.

    The map is the smoothed per-pixel error of the chosen score; of the squared error where the chosen score is of
    another kind, such as a discriminator's.

    Args:
        score: Name of the score that becomes the predicted score.
        top_k: See :func:`~anomalib_xray.scores.masked_top_k_mean`.
        map_sigma: Smoothing of the map, in pixels of the network's input.
        extra_scores: Errors out of :data:`EXTRA_ERRORS`, and of the networks', whose scores are computed besides.
        networks: Builders of networks of further errors, by name: modules that give a per-pixel error, ``(N, 1, H,
            W)``, of images and reconstructions. Only those of chosen scores are built.

    Raises:
        XrayError: An extra score is unknown.

    Example:
        >>> scorer = ReconstructionScorer(score="ssim", top_k=200, map_sigma=1.0)
        >>> image = torch.rand(2, 1, 32, 32)
        >>> scorer(image, image, lambda images: images).pred_score
        tensor([0., 0.])
    """

    def __init__(
        self,
        score: str,
        top_k: float,
        map_sigma: float,
        extra_scores: Sequence[str] | None = None,
        networks: Mapping[str, Callable[[], nn.Module]] | None = None,
    ) -> None:
        super().__init__()
        networks = networks or {}
        possible = (*EXTRA_ERRORS, *networks)
        self.extra_errors = {*(extra_scores or ()), score.removesuffix(TOP_K)} & set(possible)
        unknown = sorted(set(extra_scores or ()) - self.extra_errors)
        if unknown:
            raise XrayError(f"extra_scores names {', '.join(unknown)}, but these can be added: {', '.join(possible)}.")
        self.networks = nn.ModuleDict({name: make() for name, make in networks.items() if name in self.extra_errors})
        self.score = score
        self.top_k = top_k
        self.anomaly_map = SmoothedErrorMap(map_sigma)

    def forward(
        self,
        image: Tensor,
        reconstruction: Tensor,
        reconstruct: Callable[[Tensor], Tensor],
        others: Mapping[str, Tensor] | None = None,
        further_errors: Mapping[str, Tensor] | None = None,
    ) -> ScoredBatch:
        """Scores images.

        Args:
            image: Pre-processed radiographs, ``(N, 1, S, S)`` in [0, 1].
            reconstruction: Their reconstructions, same range and shape.
            reconstruct: Function that made them of the images; called again for a gradient only.
            others: Further scores by name, ``(N,)`` each.
            further_errors: Further per-pixel errors by name, at least 0, ``(N, 1, S, S)`` each.

        Raises:
            XrayError: A score from a gradient is to be exported.
        """
        mask = foreground(image)
        errors = reconstruction_errors(image, reconstruction)
        if "ssim" in self.extra_errors:
            errors["ssim"] = dissimilarity(image, reconstruction)
        if "gradient" in self.extra_errors:
            if not torch.compiler.is_exporting():
                errors["gradient"] = error_gradient(image, reconstruct, mask)
            elif self.score.startswith("gradient"):
                raise XrayError(
                    f"The score {self.score} needs a gradient, which an exported model cannot compute; choose another."
                )
        for name, network in self.networks.items():
            errors[name] = network(image, reconstruction)
        errors.update(further_errors or {})
        scores = error_scores(errors, mask, self.top_k)
        scores.update(others or {})
        shown = errors.get(self.score.removesuffix(TOP_K), errors["mse"])
        return ScoredBatch.of(scores, self.score, self.anomaly_map(shown, mask))
