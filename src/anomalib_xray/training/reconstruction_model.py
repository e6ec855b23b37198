"""Models with an anomaly map, and among them those that reconstruct."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from anomalib_xray.scores import ReconstructionScorer, check_top_k
from anomalib_xray.training.radiograph_model import RadiographModel


class MapModel(RadiographModel):
    """Mixin of a plugin with an anomaly map and scores of its highest values.

    Args:
        top_k: Pixels of the top-k scores: a number, or a fraction of the foreground if below 1.
        map_sigma: Smoothing of the anomaly map, in pixels of the network's input.

    Raises:
        XrayError: A ``top_k`` that counts no pixels.
    """

    def __init__(self, top_k: float = 0.03, map_sigma: float = 1.0, **settings: Any) -> None:
        super().__init__(**settings)
        check_top_k(top_k)
        self.top_k, self.map_sigma = top_k, map_sigma


class ReconstructionModel(MapModel):
    """Mixin of a plugin that reconstructs: ``class Vae(ReconstructionModel, TrainedModel, AnomalibModule)``.

    Its torch module scores by :meth:`make_scorer` and has a method ``reconstruct``.

    Args:
        extra_scores: Errors whose scores are computed besides: ``ssim``, ``gradient``.
    """

    def __init__(self, extra_scores: list[str] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.extra_scores = extra_scores

    def further_networks(self) -> dict[str, Callable[[], nn.Module]]:
        """Networks of further errors, see :class:`~anomalib_xray.scores.ReconstructionScorer`."""
        return {}

    def make_scorer(self) -> ReconstructionScorer:
        """Builds the scorer of the settings."""
        return ReconstructionScorer(self.score, self.top_k, self.map_sigma, self.extra_scores, self.further_networks())

    def pictures(self, image: Tensor) -> dict[str, Tensor]:
        """Images above their reconstructions, and the pictures of other models."""
        reconstruct: Callable[[Tensor], Tensor] = self.model.reconstruct  # type: ignore[assignment]  # a method of it
        return {**super().pictures(image), **self.reconstruction_rows(image, reconstruct(image).clamp(0, 1))}
