"""Watches the players of a GAN while it trains, so that a failed training is known before it ends."""

from __future__ import annotations

import logging
from collections import Counter
from math import sqrt
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

logger = logging.getLogger(__name__)

ALIKE = 0.1
"""Samples whose diversity is below this share of the real images' count as collapsed."""

SURE = 4.6
"""Logit from which on a discriminator is 99 % sure."""

BLIND = 0.01
"""Difference of the logits of real and generated images below which a discriminator tells nothing."""

PATIENCE = 5
"""Number of epochs in a row after which a finding is reported."""

ADVICE = {
    "collapsed": "The generator's samples are nearly alike (diversity {diversity:.3f} of the real images'); lower its "
    "learning rate, use minibatch discrimination or spectral normalisation, or take another adversarial loss.",
    "overwhelming": "The discriminator is sure of everything (logits {real:.1f} real, {fake:.1f} generated), so that "
    "the generator hardly learns; lower the discriminator's learning rate, or add instance noise or soft labels.",
    "blind": "The discriminator tells nothing apart (logits {real:.3f} real, {fake:.3f} generated), so that its scores "
    "mean nothing; raise its learning rate.",
}


class GanMonitor(Callback):
    """Logs what tells a failing GAN, and warns once about each finding that lasts.

    Logged each epoch: ``train_sample_diversity``, how much samples from fixed codes differ among each other, as a share
    of how much real images do (1 as different as real ones, 0 all alike), and ``train_discriminator_margin``, the mean
    logit of real images less that of generated ones.

    Reported after some epochs in a row: a collapsed generator, a discriminator that is sure of everything (with the log
    loss its generator's gradient then vanishes; a critic of ``wgan-gp`` has no logits and is left out), and one that
    tells nothing apart.

    Args:
        patience: Epochs in a row after which a finding is reported.
    """

    def __init__(self, patience: int = PATIENCE) -> None:
        super().__init__()
        self.patience = patience
        self.real: Tensor | None = None
        self.lasting: Counter[str] = Counter()

    def state_dict(self) -> dict[str, Any]:
        """How long findings last already."""
        return {"lasting": dict(self.lasting)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting where the checkpoint was."""
        self.lasting = Counter(state_dict["lasting"])

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: Any,  # a GanModel
        outputs: Any,
        batch: Any,  # an ImageBatch
        batch_idx: int,
    ) -> None:
        """Keeps the epoch's first real images."""
        del trainer, outputs
        if batch_idx == 0:
            self.real = pl_module.grey(batch).detach()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs and judges the epoch, if the players met in it."""
        if not getattr(pl_module, "plays", lambda: True)():
            self.real = None
            return
        logged = trainer.callback_metrics
        real, fake = float(logged["train_real_logit"]), float(logged["train_sample_logit"])
        share = diversity(pl_module.samples(), self.real)  # type: ignore[operator]  # a GanModel
        self.real = None
        pl_module.log_dict({"train_sample_diversity": share, "train_discriminator_margin": real - fake})
        critic = pl_module.adversarial_loss == "wgan-gp"
        found = {
            "collapsed": share < ALIKE,
            "overwhelming": not critic and real > SURE and fake < -SURE,
            "blind": abs(real - fake) < BLIND,
        }
        for finding, holds in found.items():
            self.lasting[finding] = self.lasting[finding] + 1 if holds else 0
            if self.lasting[finding] == self.patience:
                advice = ADVICE[finding].format(diversity=share, real=real, fake=fake)
                logger.warning("Epoch %d, for %d epochs: %s", trainer.current_epoch, self.patience, advice)


def diversity(samples: Tensor, real: Tensor | None) -> float:
    """How much samples differ among each other, as a share of how much real images do.

    The mean over pairs of the root mean squared difference of their pixels.

    Args:
        samples: Generated images, ``(M, 1, S, S)``.
        real: Real images, ``(N, 1, S, S)``, or ``None``.

    Returns:
        0 for samples that are all alike, about 1 for samples as different as the real images; 1 where there are fewer
        than two different real images to compare with.
    """
    spread = 0.0 if real is None else _spread(real)
    return _spread(samples) / spread if spread > 0 else 1.0


def _spread(images: Tensor) -> float:
    """Mean distance of pairs of images, in units of their pixels; 0 for a single one."""
    if len(images) < 2:
        return 0.0
    flat = images.float().flatten(1)
    return float(torch.pdist(flat).mean() / sqrt(flat.shape[1]))
