"""Feature extractors that are never trained."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from anomalib_xray.networks.backbone import Backbone
from anomalib_xray.scores.reconstruction import enlarged_mean, foreground, relative_feature_errors

logger = logging.getLogger(__name__)


class FrozenBackbone(Backbone):
    """A backbone with fixed weights: no gradient reaches them, and its batch normalisation stays in evaluation.

    Until weights are read from a file they are random, but always the same. Drawing them leaves torch's generator as it
    was: a model's own weights do not depend on whether it has such a backbone.

    Args:
        name: A convolutional network or vision transformer of timm.
        layers: Which of its feature maps to give, in rising order.
        image_size: Side of the images that a transformer takes.

    Raises:
        XrayError: timm has no such network, or the network has no such layers.
    """

    has_weights: Tensor
    """Whether weights were read from a file; kept in checkpoints, which need the file no more."""

    def __init__(self, name: str = "resnet18", layers: Sequence[int] = (1, 2, 3), image_size: int = 224) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same for every model: a checkpoint may lack these weights
            super().__init__(name, layers, image_size)
        self.register_buffer("has_weights", torch.tensor(False))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenBackbone:
        """Stays in evaluation."""
        del mode
        super().train(False)
        return self

    def prepare(self, weights: str | None) -> None:
        """Reads the weights of a file before training, unless they are there already; without one they stay random."""
        if bool(self.has_weights):
            return
        if weights is None:
            logger.warning(
                "The backbone %s has random weights, whose features say little; give a file with trained ones.",
                self.name,
            )
            return
        self.load_weights(weights)
        self.has_weights.fill_(True)


class PerceptualError(nn.Module):
    """Relative difference of a frozen backbone's features, as a loss and as an error of each pixel.

    The background of a reconstruction is taken as that of its image, so that it counts for nothing. Source: Shvetsova
    et al. 2021 (2006.13265), section 3.

    Args:
        backbone: A convolutional network or vision transformer of timm.
        layers: Which of its feature maps are compared, in rising order.
        image_size: Side of the images that a transformer takes.

    Raises:
        XrayError: timm has no such network, or the network has no such layers.
    """

    def __init__(self, backbone: str = "resnet18", layers: Sequence[int] = (1, 2, 3), image_size: int = 224) -> None:
        super().__init__()
        self.backbone = FrozenBackbone(backbone, layers, image_size)

    def layer_errors(self, image: Tensor, reconstruction: Tensor) -> list[Tensor]:
        """Relative errors at the places of each layer, ``(N, 1, h, w)``, of images ``(N, 1, S, S)`` in [0, 1]."""
        with torch.no_grad():
            features = self.backbone(image)
        return relative_feature_errors(features, self.backbone(reconstruction * foreground(image)))

    def loss(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        """The mean over images and layers of ``sum |f - f'| / sum |f|``, of ``(N, 1, S, S)`` in [0, 1]."""
        return torch.stack([error.mean() for error in self.layer_errors(image, reconstruction)]).mean()

    def forward(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        """The error of each pixel of ``(N, 1, S, S)`` in [0, 1]: the layers' errors, enlarged and averaged."""
        size = (image.shape[2], image.shape[3])
        return enlarged_mean(self.layer_errors(image, reconstruction), size)
