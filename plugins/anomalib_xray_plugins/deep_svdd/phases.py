"""When the network is pre-trained as an autoencoder.

The phase follows from the epoch and the length of the training alone, so that a training that goes on from a checkpoint
does what it would have done.
"""

from __future__ import annotations

from anomalib_xray.errors import XrayError


def pretraining_epochs(max_epochs: int | None, share: float) -> int:
    """How many epochs train the autoencoder, before the others draw its codes together.

    Args:
        max_epochs: Number of epochs of the whole training; below 1 or ``None`` where it has no end.
        share: Share of the epochs, at least 0 and less than 1.

    Returns:
        At least 0 and less than ``max_epochs``; 0 also where the epochs are too few to be divided.

    Raises:
        XrayError: The share is out of range, or of a training that has no end.
    """
    if not 0 <= share < 1:
        msg = (
            f"pretrain_share is {share}, but it is at least 0 (no pre-training) and less than 1; take for example 0.3."
        )
        raise XrayError(msg)
    if share == 0:
        return 0
    if max_epochs is None or max_epochs < 1:
        msg = f"pretrain_share is {share}, but training has no end; set trainer.max_epochs, or pretrain_share: 0."
        raise XrayError(msg)
    epochs = round(share * max_epochs)
    return epochs if epochs < max_epochs else 0
