"""A feature extractor that is never trained."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from anomalib_xray.components.backbone import Backbone

logger = logging.getLogger(__name__)

SEED = 0
"""Seed of random weights: the same for every model, so that training goes on with them where no checkpoint has them."""


class FrozenBackbone(Backbone):
    """A backbone with fixed weights: no gradient reaches them, and its batch normalisation stays in evaluation.

    Until weights are read from a file they are random, but always the same. Drawing them leaves torch's generator as it
    was: a model's own weights do not depend on whether it has such a backbone.

    Args:
        name: A convolutional network of timm.
        layers: Which of its feature maps to give, in rising order.

    Raises:
        XrayError: timm has no such network, or the network has no such layers.
    """

    has_weights: Tensor
    """Whether weights were read from a file; kept in checkpoints, which need the file no more."""

    def __init__(self, name: str = "resnet18", layers: Sequence[int] = (1, 2, 3)) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            super().__init__(name, layers)
        self.register_buffer("has_weights", torch.tensor(False))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> FrozenBackbone:
        """Stays in evaluation."""
        del mode
        super().train(False)
        return self

    def prepare(self, weights: str | None) -> None:
        """Reads the weights before training, unless they are there already, or says that they are random.

        Args:
            weights: File with weights of the network; none for random ones.

        Raises:
            XrayError: The file is missing, cannot be read, or holds another network.
        """
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
