"""Networks of the feature autoencoder.

Source: Meissen et al. 2022 (2208.10992), section 3, and its published code.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from anomalib_xray.components import FrozenBackbone

REDUCTION = 4
"""How many times smaller than the image's side that of the joint feature map is at least, as published."""


class FeatureMap(nn.Module):
    """One map of a frozen backbone's features of several levels, side by side.

    Args:
        backbone: A convolutional network of timm.
        layers: Which of its feature maps, in rising order.
        standardized: Whether each channel is scaled by its mean and deviation over the training images, so that all
            count alike.

    Attributes:
        channels: Number of channels of the joint map.
        reduction: How many times smaller its side is than the image's.
    """

    mean: Tensor
    square: Tensor
    images: Tensor

    def __init__(self, backbone: str, layers: Sequence[int], standardized: bool = True) -> None:
        super().__init__()
        self.backbone = FrozenBackbone(backbone, layers)
        self.standardized = standardized
        self.channels = sum(self.backbone.channels)
        self.reduction = max(REDUCTION, min(self.backbone.strides))
        self.register_buffer("mean", torch.zeros(1, self.channels, 1, 1))
        self.register_buffer("square", torch.ones(1, self.channels, 1, 1))
        self.register_buffer("images", torch.zeros(()))

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Gives the joint map; in training its statistics take part in the channels' means and deviations.

        Args:
            image: ``(N, 1, S, S)`` in [0, 1].

        Returns:
            ``(N, C, S / reduction, S / reduction)``.
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
