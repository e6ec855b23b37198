"""Watches features that are drawn together while they train, so that a collapse is known before training ends."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

logger = logging.getLogger(__name__)

ALIKE = 1e-4
"""Spread below which all images have the same features, up to what noise in the network leaves."""

PATIENCE = 3
"""Number of epochs in a row after which a collapse is reported."""


def feature_spread(features: Tensor) -> Tensor:
    """How much the features of different images differ, as a share of their length.

    The root mean squared distance from the mean feature, divided by the root mean squared length.

    Args:
        features: ``(N, F)``.

    Returns:
        Scalar in [0, 1]: 0 where all images have the same features, 1 where these are 0 on average.
    """
    features = features.detach().float()
    apart = (features - features.mean(0)).square().sum(1).mean()
    return (apart / features.square().sum(1).mean().clamp(min=torch.finfo(features.dtype).tiny)).sqrt()


class CollapseMonitor(Callback):
    """Warns once if the features of all images have become the same: every score is then noise.

    The model logs ``train_feature_spread``, see :func:`feature_spread`. Reported after some epochs in a row.

    Args:
        advice: What to do about it: the end of a sentence.
        patience: Epochs in a row after which it is reported.
    """

    def __init__(self, advice: str, patience: int = PATIENCE) -> None:
        super().__init__()
        self.advice = advice
        self.patience = patience
        self.lasting = 0

    def state_dict(self) -> dict[str, Any]:
        """How long it lasts already."""
        return {"lasting": self.lasting}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting where the checkpoint was."""
        self.lasting = state_dict["lasting"]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Judges the epoch, if features were trained in it."""
        del pl_module
        spread = trainer.callback_metrics.get("train_feature_spread")
        if spread is None:
            return
        self.lasting = self.lasting + 1 if float(spread) < ALIKE else 0
        if self.lasting == self.patience:
            logger.warning(
                "Epoch %d, for %d epochs: all images have the same features (spread %.1e of their length), so that the "
                "scores mean nothing; %s.",
                trainer.current_epoch,
                self.patience,
                float(spread),
                self.advice,
            )
