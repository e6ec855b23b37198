"""The order of training images, and all other chance of an epoch, from seed and epoch alone."""

from __future__ import annotations

from collections.abc import Sized

import torch
import torch.distributed as distributed
from torch.utils.data import RandomSampler

ANOTHER_PROCESS = 1_000_003
"""Distance of the seeds of two processes, more than a training has epochs."""


class EpochSampler(RandomSampler):
    """Shuffles anew every epoch, so that a resumed training goes on as if it had never stopped.

    A training that is resumed builds its model, and with it the random state, again; without this its first epoch would
    repeat the order, the augmentations and the noise of epoch 0. Lightning calls :meth:`set_epoch` before every epoch,
    but on resuming only after the first batch was fetched, hence the constructor's argument.

    Args:
        data: Training data set.
        seed: Seed of the run.
        epoch: Epoch that the training starts or goes on with.
    """

    def __init__(self, data: Sized, seed: int, epoch: int = 0) -> None:
        self.source = torch.Generator()
        super().__init__(data, generator=self.source)
        self.seed = seed
        self.epoch = -1
        self.set_epoch(epoch)

    def set_epoch(self, epoch: int) -> None:
        """Seeds the order, and torch's own generator for augmentation and noise; once an epoch."""
        if epoch == self.epoch:
            return
        self.epoch = epoch
        state = (self.seed + epoch) % 2**63
        self.source.manual_seed(state)
        # Processes share the order, of which each takes its part, but not the noise.
        torch.manual_seed((state + _rank() * ANOTHER_PROCESS) % 2**63)


def _rank() -> int:
    """Number of this process among those that train together."""
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0
