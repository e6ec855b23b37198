"""Autoencoder of a frozen backbone's features.

Source: Meissen et al. 2022 (2208.10992), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from anomalib_xray.scores import ScoredBatch, SmoothedErrorMap, error_scores, foreground
from anomalib_xray_plugins.feature_ae.loss import FeatureLoss, feature_errors, masked_feature_loss
from anomalib_xray_plugins.feature_ae.networks import FeatureMap, decoder, encoder

STANDARD_RANGE = 6.0
"""Width of the range of standardised features: three deviations on both sides of the mean."""

SCORES = tuple(f"feature_{kind}{ending}" for kind in ("ssim", "mse", "cosine") for ending in ("", "_top_k"))
"""Scores that the model computes."""


class FeatureAeModel(nn.Module):
    """Reconstructs a feature map, and scores where it fails.

    Args:
        backbone: A convolutional network of timm.
        layers: Which of its feature maps are put together, in rising order.
        channels: Channels of the encoder's levels but the last; each level halves the side.
        latent_channels: Channels of the last one.
        standardized: Whether features are scaled by their mean and deviation over the training images.
        score: Name of the score that becomes the predicted score.
        top_k: See :func:`~anomalib_xray.scores.masked_top_k_mean`.
        map_sigma: Smoothing of the map, in pixels of the network's input.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        layers: Sequence[int] = (0, 1, 2),
        channels: Sequence[int] = (100, 150, 200),
        latent_channels: int = 300,
        standardized: bool = True,
        score: str = "feature_ssim_top_k",
        top_k: float = 0.03,
        map_sigma: float = 1.0,
    ) -> None:
        super().__init__()
        self.features = FeatureMap(backbone, layers, standardized)
        steps = [self.features.channels, *channels, latent_channels]
        self.encoder = encoder(steps)
        self.decoder = decoder(steps)
        self.value_range = STANDARD_RANGE if standardized else 1.0
        self.score = score
        self.top_k = top_k
        self.anomaly_map = SmoothedErrorMap(map_sigma)

    def reconstruct(self, features: Tensor) -> Tensor:
        """Encodes and decodes feature maps, ``(N, C, h, w)`` to the same."""
        reconstruction: Tensor = self.decoder(self.encoder(features))
        return reconstruction

    def loss(self, image: Tensor, kind: FeatureLoss) -> Tensor:
        """Error of the reconstructed features over the foreground.

        Args:
            image: ``(N, 1, S, S)`` in [0, 1].
            kind: ``ssim``, ``mse`` or ``cosine``.

        Returns:
            Scalar.
        """
        features = self.features(image)
        height, width = features.shape[2:]
        weight = adaptive_avg_pool2d(foreground(image), (height, width))
        return masked_feature_loss(features, self.reconstruct(features), weight, kind, self.value_range)

    def forward(self, batch: Tensor) -> Tensor | ScoredBatch:
        """Reconstructs features in training, scores in evaluation.

        Args:
            batch: Pre-processed images with equal channels, ``(N, 3, S, S)`` in [0, 1].

        Returns:
            Reconstructed features ``(N, C, h, w)`` in training, scores and map in evaluation.
        """
        image = batch.mean(1, keepdim=True)
        features = self.features(image)
        reconstruction = self.reconstruct(features)
        if self.training:
            return reconstruction
        mask = foreground(image)
        size = (image.shape[2], image.shape[3])
        errors = {
            f"feature_{name}": interpolate(error, size=size, mode="bilinear", align_corners=False)
            for name, error in feature_errors(features, reconstruction, self.value_range).items()
        }
        scores = error_scores(errors, mask, self.top_k)
        shown = errors[self.score.removesuffix("_top_k")]
        return ScoredBatch.of(scores, self.score, self.anomaly_map(shown, mask))
