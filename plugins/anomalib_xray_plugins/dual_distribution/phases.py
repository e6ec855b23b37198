"""When the ensembles are trained and when the refinement.

The phase follows from the epoch and the settings alone, so that a training that goes on from a checkpoint does what it
would have done.
"""

from __future__ import annotations

from anomalib_xray.errors import XrayError
from anomalib_xray_plugins.dual_distribution.refinement import Refinement


def ensemble_epochs(max_epochs: int | None, refinement: Refinement, refinement_epochs: int) -> int | None:
    """How many epochs the ensembles train before the refinement does.

    Args:
        max_epochs: Epochs of the whole training, -1 for a training without end; ``None`` where they are not known yet.
        refinement: Whether there is a refinement.
        refinement_epochs: Its epochs.

    Returns:
        Number of epochs; ``None`` where all are the ensembles', or the number is not known.

    Raises:
        XrayError: A refinement without epochs, or the other way round, or no epoch left for the ensembles.
    """
    if (refinement == "none") != (refinement_epochs == 0) or refinement_epochs < 0:
        msg = (
            f"refinement is {refinement} and refinement_epochs {refinement_epochs}; give a refinement at least 1 "
            "epoch, and none 0."
        )
        raise XrayError(msg)
    if refinement == "none" or max_epochs is None:
        return None
    if max_epochs <= refinement_epochs:
        msg = (
            f"Of {max_epochs} epochs of training {refinement_epochs} are the refinement's, so that none is left for "
            "the ensembles; raise trainer.max_epochs."
        )
        raise XrayError(msg)
    return max_epochs - refinement_epochs


def epoch_shares(max_epochs: int | None, refinement: Refinement, refinement_epochs: int) -> tuple[float, float, float]:
    """Shares of the training in which A, B and the refinement are trained; arguments as :func:`ensemble_epochs`."""
    epochs = ensemble_epochs(max_epochs, refinement, refinement_epochs)
    if epochs is None or max_epochs is None:
        return 1.0, 1.0, 1.0
    return epochs / max_epochs, epochs / max_epochs, 1 - epochs / max_epochs
