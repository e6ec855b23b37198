"""Metrics of one ranking, for many weightings of its units at once.

A bootstrap of patients is a weighting: who is drawn twice counts twice. The scores are sorted once, whatever the number
of replicates.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomalib_xray.errors import XrayError

Values = NDArray[np.float64]


class Ranking:
    """Units in the order of their scores.

    Args:
        labels: 1 abnormal, 0 normal, ``(N,)``.
        scores: Higher = more anomalous, ``(N,)``.

    Raises:
        XrayError: The two differ in length, a label is neither, or a score is not finite.

    Example:
        >>> ranking = Ranking(labels=[0, 0, 1, 1], scores=[0.1, 0.4, 0.3, 0.9])
        >>> ranking.auroc().tolist(), ranking.sensitivity(specificity=0.9).tolist()
        ([0.75], [0.5])
    """

    def __init__(self, labels: ArrayLike, scores: ArrayLike) -> None:
        abnormal, values = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
        if abnormal.shape != values.shape or abnormal.ndim != 1:
            raise XrayError(
                f"{abnormal.shape} labels and {values.shape} scores do not belong together; give one of each a unit."
            )
        if not np.isin(abnormal, (0, 1)).all():
            raise XrayError("A label is neither 0 nor 1; leave out units of unknown label.")
        if not np.isfinite(values).all():
            raise XrayError("A score is not a finite number, so it has no rank; leave it out.")
        self.order = np.argsort(-values, kind="stable")
        ordered = values[self.order]
        # Units of equal score share a place: the first of each begins a step of the curves.
        self.steps = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(values) else np.zeros(0, int)
        self.abnormal = abnormal[self.order]

    def auroc(self, weights: ArrayLike | None = None) -> Values:
        """Area under the receiver operating characteristic, ties counting one half.

        Args:
            weights: How often each unit counts, ``(B, N)``; once if left out.

        Returns:
            ``(B,)``, not a number where a weighting leaves a class empty.
        """
        abnormal, normal = self._of_steps(weights)
        above = np.cumsum(abnormal, 1) - abnormal / 2
        return _share((above * normal).sum(1), abnormal.sum(1) * normal.sum(1))

    def average_precision(self, weights: ArrayLike | None = None) -> Values:
        """Mean precision at the units that are abnormal, without interpolation; chance is the share of abnormal ones.

        Args:
            weights: As in :meth:`auroc`.

        Returns:
            ``(B,)``, not a number where no unit is abnormal.
        """
        abnormal, normal = self._of_steps(weights)
        found, flagged = np.cumsum(abnormal, 1), np.cumsum(abnormal + normal, 1)
        precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
        return _share((precision * abnormal).sum(1), abnormal.sum(1))

    def sensitivity(self, specificity: float, weights: ArrayLike | None = None) -> Values:
        """Share of abnormal units that is found at a given specificity.

        Args:
            specificity: Smallest share of normal units that pass as normal, 0 to 1.
            weights: As in :meth:`auroc`.

        Returns:
            ``(B,)``, at the best threshold that keeps the specificity; not a number where a class is empty.
        """
        abnormal, normal = self._of_steps(weights)
        flagged = np.cumsum(normal, 1)
        allowed = (1 - specificity) * normal.sum(1, keepdims=True)
        kept = flagged <= allowed + 1e-9  # sums of whole numbers, shares are not exact
        found = (np.cumsum(abnormal, 1) * kept).max(1, initial=0)
        return _share(np.where(normal.sum(1) > 0, found, np.nan), abnormal.sum(1))

    def cumulative(self, weights: ArrayLike | None = None) -> tuple[Values, Values]:
        """Weights of normal and of abnormal units at or above each score, each ``(B, steps + 1)``, from none to all."""
        abnormal, normal = self._of_steps(weights)
        ends = [np.pad(np.cumsum(part, 1), ((0, 0), (1, 0))) for part in (normal, abnormal)]
        return ends[0], ends[1]

    def _of_steps(self, weights: ArrayLike | None) -> tuple[Values, Values]:
        """Weight of abnormal and of normal units at each score, from the highest down, each ``(B, steps)``."""
        counts = np.ones((1, len(self.order))) if weights is None else np.asarray(weights, dtype=np.float64)
        counts = counts[:, self.order]
        abnormal = np.add.reduceat(counts * self.abnormal, self.steps, axis=1)
        return abnormal, np.add.reduceat(counts * (1 - self.abnormal), self.steps, axis=1)


def _share(part: Values, whole: Values) -> Values:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
