"""When which network is trained.

The phase follows from the epoch and the length of the training alone, so that a training that goes on from a checkpoint
does what it would have done.
"""

from __future__ import annotations

from typing import Literal

from anomalib_xray.errors import XrayError

Phase = Literal["gan", "encoder", "both"]
"""Generator and critic are trained, or the encoder, or in each step all three."""


def gan_epochs(max_epochs: int | None, encoder_share: float) -> int | None:
    """How many epochs generator and critic are trained before the encoder is.

    Args:
        max_epochs: Number of epochs of the whole training; below 1 or ``None`` where it has no end.
        encoder_share: Share of the epochs that are the encoder's, at least 0 and less than 1.

    Returns:
        At least 1 and less than ``max_epochs``; ``None`` where there is no such division, because the share is 0 or the
        epochs are too few.

    Raises:
        XrayError: The share is out of range, or the training has no end to count back from.
    """
    if not 0 <= encoder_share < 1:
        msg = (
            f"encoder_share is {encoder_share}, but it is at least 0 (trained beside the generator) and less than 1; "
            "take for example 0.4."
        )
        raise XrayError(msg)
    if encoder_share == 0:
        return None
    if max_epochs is None or max_epochs < 1:
        msg = (
            f"encoder_share is {encoder_share}, but training has no end; set trainer.max_epochs, or encoder_share: 0 "
            "to train the encoder beside the generator."
        )
        raise XrayError(msg)
    epochs = round((1 - encoder_share) * max_epochs)
    return epochs if 1 <= epochs < max_epochs else None


def phase_of(epoch: int, max_epochs: int | None, encoder_share: float) -> Phase:
    """Which networks are trained in an epoch.

    Args:
        epoch: Number of the epoch, from 0.
        max_epochs: See :func:`gan_epochs`.
        encoder_share: See :func:`gan_epochs`.

    Returns:
        ``both`` where the epochs are not divided.

    Raises:
        XrayError: See :func:`gan_epochs`.
    """
    first = gan_epochs(max_epochs, encoder_share)
    if first is None:
        return "both"
    return "gan" if epoch < first else "encoder"
