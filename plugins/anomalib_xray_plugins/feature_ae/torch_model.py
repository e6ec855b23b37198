"""Autoencoder of a frozen backbone's features.

Source: Meissen et al. 2022 (2208.10992), section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from anomalib_xray.networks.frozen_backbone import FrozenBackbone
from anomalib_xray.scores import ScoredBatch, SmoothedErrorMap, error_scores, foreground
from anomalib_xray_plugins.feature_ae.loss import FeatureLoss, feature_errors, masked_feature_loss

REDUCTION = 4
"""Least ratio of the sides of image and joint feature map, as published."""


class FeatureMap(nn.Module):
    """One map of a frozen backbone's features of several levels, side by side.

    Args:
        backbone: A convolutional network or vision transformer of timm.
        layers: Which of its feature maps, in rising order.
        standardized: Whether each channel is scaled by its mean and deviation over the training images, so that all
            count alike.
        image_size: Side of the images.

    Attributes:
        channels: Number of channels of the joint map.
        reduction: Ratio of the sides of image and map.
    """

    mean: Tensor
    square: Tensor
    images: Tensor

    def __init__(self, backbone: str, layers: Sequence[int], standardized: bool = True, image_size: int = 224) -> None:
        super().__init__()
        self.backbone = FrozenBackbone(backbone, layers, image_size)
        self.standardized = standardized
        self.channels = sum(self.backbone.channels)
        self.reduction = max(REDUCTION, min(self.backbone.strides))
        self.register_buffer("mean", torch.zeros(1, self.channels, 1, 1))
        self.register_buffer("square", torch.ones(1, self.channels, 1, 1))
        self.register_buffer("images", torch.zeros(()))

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Joint map ``(N, C, S / reduction, S / reduction)`` of images ``(N, 1, S, S)`` in [0, 1].

        In training its statistics take part in the channels' means and deviations.
        """
        side = image.shape[-1] // self.reduction
        maps = [
            interpolate(one, size=(side, side), mode="bilinear", align_corners=False) for one in self.backbone(image)
        ]
        features = torch.cat(maps, 1)
        if not self.standardized:
            return features
        if self.training:
            self.learn(features)
        deviation = (self.square - self.mean.square()).clamp(min=1e-6).sqrt()
        return (features - self.mean) / deviation

    def learn(self, features: Tensor) -> None:
        """Takes features into the means over all images so far."""
        features = features.to(self.mean.dtype)
        self.images += len(features)
        share = len(features) / self.images
        self.mean += share * (features.mean((0, 2, 3), keepdim=True) - self.mean)
        self.square += share * (features.square().mean((0, 2, 3), keepdim=True) - self.square)


def encoder(channels: Sequence[int]) -> nn.Sequential:
    """Halves the side with every step of ``channels``, which begins with those of the features."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        layers += [nn.Conv2d(inputs, outputs, 5, 2, 2, bias=False), nn.BatchNorm2d(outputs), nn.LeakyReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(channels[-1], channels[-1], 5, 1, 2, bias=False))


def decoder(channels: Sequence[int]) -> nn.Sequential:
    """Doubles the side with every step, back to the features; the last convolution gives them any sign."""
    layers: list[nn.Module] = []
    for outputs, inputs in reversed(list(pairwise(channels))):
        layers.append(nn.ConvTranspose2d(inputs, outputs, 6, 2, 2, bias=False))
        layers += [nn.BatchNorm2d(outputs), nn.LeakyReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(channels[0], channels[0], 1, bias=False))


STANDARD_RANGE = 6.0
"""Width of the range of standardised features: three deviations on both sides of the mean."""

SCORES = tuple(f"feature_{kind}{ending}" for kind in ("ssim", "mse", "cosine") for ending in ("", "_top_k"))
"""Scores that the model computes."""


class FeatureAeModel(nn.Module):
    """Reconstructs a feature map, and scores where it fails; the arguments are settings of ``FeatureAe``."""

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
        image_size: int = 224,
    ) -> None:
        super().__init__()
        self.features = FeatureMap(backbone, layers, standardized, image_size)
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
        """Error of the features of images ``(N, 1, S, S)`` in [0, 1] over the foreground."""
        features = self.features(image)
        height, width = features.shape[2:]
        weight = adaptive_avg_pool2d(foreground(image), (height, width))
        return masked_feature_loss(features, self.reconstruct(features), weight, kind, self.value_range)

    def forward(self, batch: Tensor) -> Tensor | ScoredBatch:
        """Reconstructs features in training, scores in evaluation; images are pre-processed, ``(N, 3, S, S)``."""
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
