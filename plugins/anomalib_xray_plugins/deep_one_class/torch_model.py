"""Deep one-class features as one module: the network, its classifier and its templates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from anomalib_xray.scores import ScoredBatch
from anomalib_xray_plugins.deep_one_class.networks import Features

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
        """Gives the classifier, newly drawn, as many classes as there are; one class is told from the target.

        Args:
            classes: Number of reference classes, at least 1.
        """
        if self.classifier.out_features != max(classes, 2):
            place = self.classifier.weight.device
            self.classifier = nn.Linear(self.features.size, max(classes, 2), device=place)

    @torch.no_grad()
    def set_templates(self, images: Iterable[Tensor]) -> None:
        """Takes the features of normal images as templates, as evaluation computes them.

        Args:
            images: Batches of pre-processed images, each ``(N, 3, S, S)`` in [0, 1].
        """
        was_training = self.training
        self.eval()
        features = torch.cat([self.features(image.mean(1, keepdim=True)) for image in images])
        self.train(was_training)
        self.templates = normalize(features)
        self.center.copy_(features.mean(0))

    def forward(self, batch: Tensor) -> Tensor | ScoredBatch:
        """Gives features in training, scores in evaluation.

        Args:
            batch: Pre-processed images with equal channels, ``(N, 3, S, S)`` in [0, 1].

        Returns:
            Features ``(N, F)`` in training; in evaluation scores, without a map.
        """
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
