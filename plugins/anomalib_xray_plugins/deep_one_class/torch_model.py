"""Deep one-class features as one module: network, classifier and templates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.backbone import Backbone
from anomalib_xray.scores import ScoredBatch


class Features(nn.Module):
    """Features of images, ``(N, 1, S, S)`` in [0, 1] to ``(N, F)``.

    Args:
        backbone: A convolutional network or vision transformer of timm.
        layer: The last of its feature maps that is used, from 0.
        frozen_levels: How many of its feature maps, from the first, are not trained.
        size: Features F of a fully connected layer with ReLU on top; none takes the pooled map itself.
        image_size: Side of the images.

    Raises:
        XrayError: The network or its layer is not there, or more levels are frozen than it has.
    """

    def __init__(self, backbone: str, layer: int, frozen_levels: int, size: int | None, image_size: int = 224) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, range(layer + 1), image_size)
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
    """Weights that the feature map of a layer depends on, found by a backward pass."""
    weights = [weight for weight in backbone.parameters() if weight.requires_grad]
    was_training = backbone.training
    backbone.eval()
    with torch.enable_grad():
        # Values do not matter: a weight that the map does not depend on has no gradient, not one of 0.
        side = backbone.side or 64
        feature_map = backbone(torch.zeros(1, 1, side, side, device=weights[0].device))[layer]
        gradients = torch.autograd.grad(feature_map.sum(), weights, allow_unused=True)
    backbone.train(was_training)
    return [weight for weight, gradient in zip(weights, gradients, strict=True) if gradient is not None]


SCORES = ("template_distance", "template_distance_mean", "center_distance")
"""Scores that the model can compute."""


class DeepOneClassModel(nn.Module):
    """Features that are alike for normal images and still tell other things apart.

    Args:
        features: The network.
        neighbours: Templates that ``template_distance_mean`` averages over.
        score: Score that becomes the predicted score.

    Attributes:
        templates: Features of normal training images, ``(M, F)``, each of length 1; a single one of zeros before
            training.
        center: Mean of their features, ``(F,)``.
        has_weights: Whether the backbone's weights were read from a file.
    """

    templates: Tensor
    center: Tensor
    has_weights: Tensor

    def __init__(self, features: Features, neighbours: int = 5, score: str = "template_distance") -> None:
        super().__init__()
        self.features = features
        self.classifier = nn.Linear(features.size, 2)
        self.neighbours = neighbours
        self.score = score
        self.register_buffer("templates", torch.zeros(1, features.size))
        self.register_buffer("center", torch.zeros(features.size))
        self.register_buffer("has_weights", torch.tensor(False))

    def set_classes(self, classes: int) -> None:
        """Draws a classifier of as many classes as there are; one class is told from the target."""
        if self.classifier.out_features != max(classes, 2):
            place = self.classifier.weight.device
            self.classifier = nn.Linear(self.features.size, max(classes, 2), device=place)

    @torch.no_grad()
    def set_templates(self, images: Iterable[Tensor]) -> None:
        """Takes the features of normal images, in batches ``(N, 3, S, S)``, as templates, computed as in evaluation."""
        was_training = self.training
        self.eval()
        features = torch.cat([self.features(image.mean(1, keepdim=True)) for image in images])
        self.train(was_training)
        self.templates = normalize(features)
        self.center.copy_(features.mean(0))

    def forward(self, batch: Tensor) -> Tensor | ScoredBatch:
        """Gives features of pre-processed images ``(N, 3, S, S)`` in training, scores without a map in evaluation."""
        features: Tensor = self.features(batch.mean(1, keepdim=True))
        if self.training:
            return features
        nearest = cosine_distance(features, self.templates).topk(
            min(self.neighbours, len(self.templates)), largest=False
        )
        scores = {
            "template_distance": nearest.values[:, 0],
            "template_distance_mean": nearest.values.mean(1),
            "center_distance": (features - self.center).square().mean(1),
        }
        return ScoredBatch.of(scores, self.score, None)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        """Takes the number of templates and classes over: they belong to the training."""
        templates = state_dict.get(f"{prefix}templates")
        if isinstance(templates, Tensor) and templates.shape != self.templates.shape:
            self.templates = torch.zeros_like(templates, device=self.templates.device)
        weight = state_dict.get(f"{prefix}classifier.weight")
        if isinstance(weight, Tensor):
            self.set_classes(len(weight))
        super()._load_from_state_dict(state_dict, prefix, *args)


def cosine_distance(features: Tensor, templates: Tensor) -> Tensor:
    """One less the cosine of the angle between features and templates.

    As half the squared distance of vectors of length 1: one less the cosine loses its digits where both are alike.

    Args:
        features: ``(N, F)``.
        templates: Of length 1, ``(M, F)``.

    Returns:
        ``(N, M)``, from 0 to 2; 1/2 for a template of zeros.
    """
    return (normalize(features)[:, None] - templates[None]).square().sum(2) / 2
