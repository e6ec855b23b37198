"""Perceptual error: what a frozen network sees differently in a radiograph and in its reconstruction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anomalib_xray.components.frozen_backbone import FrozenBackbone
from anomalib_xray.scores import enlarged_mean, foreground, relative_feature_errors


class PerceptualError(nn.Module):
    """Relative difference of a frozen backbone's features, as a loss and as an error of each pixel.

    The background of a reconstruction is taken as that of its image, so that it counts for nothing. Source: Shvetsova
    et al. 2021 (2006.13265), section 3.

    Args:
        backbone: A convolutional network of timm.
        layers: Which of its feature maps are compared, in rising order.

    Raises:
        XrayError: timm has no such network, or the network has no such layers.
    """

    def __init__(self, backbone: str = "resnet18", layers: Sequence[int] = (1, 2, 3)) -> None:
        super().__init__()
        self.backbone = FrozenBackbone(backbone, layers)

    def layer_errors(self, image: Tensor, reconstruction: Tensor) -> list[Tensor]:
        """Relative errors at the places of each layer, ``(N, 1, h, w)``, of images ``(N, 1, S, S)`` in [0, 1]."""
        with torch.no_grad():
            features = self.backbone(image)
        return relative_feature_errors(features, self.backbone(reconstruction * foreground(image)))

    def loss(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        """The mean over images and layers of ``sum |f - f'| / sum |f|``.

        Args:
            reconstruction: ``(N, 1, S, S)`` in [0, 1].
            image: ``(N, 1, S, S)`` in [0, 1].

        Returns:
            Scalar.
        """
        return torch.stack([error.mean() for error in self.layer_errors(image, reconstruction)]).mean()

    def forward(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        """The error of each pixel: the layers' errors, enlarged and averaged.

        Args:
            image: ``(N, 1, S, S)`` in [0, 1].
            reconstruction: ``(N, 1, S, S)`` in [0, 1].

        Returns:
            At least 0, ``(N, 1, S, S)``.
        """
        size = (image.shape[2], image.shape[3])
        return enlarged_mean(self.layer_errors(image, reconstruction), size)
