"""From an image and its reconstruction to all scores and the map of a model that reconstructs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from anomalib_xray.errors import XrayError
from anomalib_xray.scores.anomaly_map import SmoothedErrorMap
from anomalib_xray.scores.foreground import foreground
from anomalib_xray.scores.gradient import error_gradient
from anomalib_xray.scores.output import ScoredBatch
from anomalib_xray.scores.reconstruction import TOP_K, error_scores, reconstruction_errors
from anomalib_xray.scores.structural import dissimilarity

EXTRA_ERRORS = ("ssim", "gradient")
"""Per-pixel errors that cost more than the others; their scores are computed on request."""

EXTRA_SCORES = tuple(name + ending for name in EXTRA_ERRORS for ending in ("", TOP_K))
"""Scores of these errors."""

PERCEPTUAL_SCORES = ("perceptual", "perceptual" + TOP_K)
"""Scores of a model whose scorer has a network for the error ``perceptual``."""


class ReconstructionScorer(nn.Module):
    """Computes the scores and the map of a model that reconstructs.

    The map is the smoothed per-pixel error of the chosen score; of the squared error where the chosen score is of
    another kind, such as a discriminator's.

    Args:
        score: Name of the score that becomes the predicted score.
        top_k: See :func:`~anomalib_xray.scores.masked_top_k_mean`.
        map_sigma: Smoothing of the map, in pixels of the network's input.
        extra_scores: Errors out of :data:`EXTRA_ERRORS`, and of the networks', whose scores are computed besides.
        networks: Builds the networks of further errors, by name: modules that give an error of each pixel, ``(N, 1, H,
            W)``, of images and reconstructions. Only those that are asked for are built.

    Raises:
        XrayError: An extra score is unknown.
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
            msg = f"extra_scores names {', '.join(unknown)}, but these can be added: {', '.join(possible)}."
            raise XrayError(msg)
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
    ) -> ScoredBatch:
        """Scores images.

        Args:
            image: Pre-processed radiographs, ``(N, 1, S, S)`` in [0, 1].
            reconstruction: Their reconstructions, same range and shape.
            reconstruct: What made them of the images; called again for a gradient only.
            others: Further scores by name, ``(N,)`` each.

        Returns:
            Scores and map.

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
                msg = (
                    f"The score {self.score} needs a gradient, which an exported model cannot compute; choose another."
                )
                raise XrayError(msg)
        for name, network in self.networks.items():
            errors[name] = network(image, reconstruction)
        scores = error_scores(errors, mask, self.top_k)
        scores.update(others or {})
        shown = errors.get(self.score.removesuffix(TOP_K), errors["mse"])
        return ScoredBatch.of(scores, self.score, self.anomaly_map(shown, mask))
