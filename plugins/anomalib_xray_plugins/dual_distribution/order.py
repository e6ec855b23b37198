"""Which images a network sees when: from its seed and the epoch alone, so that a resumed training goes on exactly."""

from __future__ import annotations

import torch
from torch import Tensor

SEEDS = 2**63


def shuffled_batches(count: int, batch_size: int, seed: int, drop_last: bool = False) -> list[Tensor]:
    """One pass through images in an order of chance.

    Args:
        count: Number of images.
        batch_size: Images of a batch.
        seed: Seed of the order.
        drop_last: Whether a smaller last batch is left out, unless it is the only one.

    Returns:
        Numbers of the images of each batch.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed % SEEDS))
    batches = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    return batches[:-1] if drop_last and len(batches) > 1 and len(batches[-1]) < batch_size else batches


def in_this_step(step: int, steps: int, batches: int) -> range:
    """Spreads batches evenly over the steps of an epoch, whether there are more or fewer of them.

    Args:
        step: Number of the trainer's step in the epoch, from 0.
        steps: Steps of the trainer in an epoch.
        batches: Batches to spread.

    Returns:
        Numbers of the batches that belong to the step; over all steps each batch occurs once.
    """
    return range(step * batches // steps, (step + 1) * batches // steps)
