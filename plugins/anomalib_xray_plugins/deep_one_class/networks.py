"""The network of deep one-class features: a backbone whose first levels may be frozen, and its features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anomalib_xray.components import Backbone
from anomalib_xray.errors import XrayError


class Features(nn.Module):
    """Features of images, ``(N, 1, S, S)`` in [0, 1] to ``(N, F)``.

    Args:
        backbone: A convolutional network of timm.
        layer: The last of its feature maps that is used, from 0.
        frozen_levels: How many of its feature maps, from the first, are not trained.
        size: Features F of a fully connected layer with ReLU on top; none takes the pooled map itself.

    Raises:
        XrayError: The network or its layer is not there, or more levels are frozen than it has.
    """

    def __init__(self, backbone: str, layer: int, frozen_levels: int, size: int | None) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, range(layer + 1))
        if not 0 <= frozen_levels <= layer + 1:
            msg = (
                f"frozen_levels is {frozen_levels}, but {backbone} has {layer + 1} levels up to backbone_layer {layer}."
            )
            raise XrayError(msg)
        pooled = self.backbone.channels[-1]
        self.head = nn.Identity() if size is None else nn.Sequential(nn.Linear(pooled, size), nn.ReLU(inplace=True))
        self.size = pooled if size is None else size
        self._frozen = weights_up_to(self.backbone, frozen_levels - 1) if frozen_levels > 0 else []
        for weight in self._frozen:
            weight.requires_grad_(False)
        self.train()  # a trainer keeps the modes that it finds

    def train(self, mode: bool = True) -> Features:
        """Keeps the normalisation of frozen levels in evaluation."""
        super().train(mode)
        frozen = {id(weight) for weight in self._frozen}
        for module in self.backbone.modules():
            own = list(module.parameters(recurse=False))
            if own and all(id(weight) in frozen for weight in own):
                module.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Gives the features, ``(N, F)``."""
        features: Tensor = self.head(self.backbone.pooled(image))
        return features


def weights_up_to(backbone: Backbone, layer: int) -> list[nn.Parameter]:
    """The weights that a feature map depends on, found by a backward pass.

    Args:
        backbone: The network; left in the mode and with the gradients that it had.
        layer: Place of the feature map among the backbone's layers.
    """
    weights = [weight for weight in backbone.parameters() if weight.requires_grad]
    was_training = backbone.training
    backbone.eval()
    with torch.enable_grad():
        # Values do not matter: a weight that the map does not depend on has no gradient, not one of 0.
        feature_map = backbone(torch.zeros(1, 1, 64, 64, device=weights[0].device))[layer]
        gradients = torch.autograd.grad(feature_map.sum(), weights, allow_unused=True)
    backbone.train(was_training)
    return [weight for weight, gradient in zip(weights, gradients, strict=True) if gradient is not None]
