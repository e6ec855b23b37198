"""Metrics of one ranking, for many weightings of its units at once.

A bootstrap of patients is a weighting: who is drawn twice counts twice. The scores are sorted once, whatever the number
of replicates.
"""

from __future__ import annotations

from typing import NamedTuple

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
        # Each class from the highest score down.
        self._normal, self._abnormal = (
            places[np.argsort(-values[places], kind="stable")]
            for places in map(np.flatnonzero, (abnormal == 0, abnormal))
        )
        self._below = [-values[places] for places in (self._normal, self._abnormal)]
        self._counted: tuple[object, _Counts] | None = None

    def auroc(self, weights: ArrayLike | None = None) -> Values:
        """Area under the receiver operating characteristic, ties counting one half.

        Args:
            weights: How often each unit counts, ``(B, N)``; once if left out.

        Returns:
            ``(B,)``, not a number where a weighting leaves a class empty.
        """
        counts = self._count(weights)
        lower = counts.normals - (counts.above + counts.at_or_above) / 2  # normal units below, those of its score half
        return _share(_sum(counts.abnormal, lower), counts.abnormals * counts.normals)

    def average_precision(self, weights: ArrayLike | None = None) -> Values:
        """Mean precision at the units that are abnormal, without interpolation; chance is the share of abnormal ones.

        Args:
            weights: As in :meth:`auroc`.

        Returns:
            ``(B,)``, not a number where no unit is abnormal.
        """
        counts = self._count(weights)
        flagged = counts.found + counts.at_or_above
        precision = np.divide(counts.found, flagged, out=np.zeros_like(flagged), where=flagged > 0)
        return _share(_sum(precision, counts.abnormal), counts.abnormals)

    def sensitivity(self, specificity: float, weights: ArrayLike | None = None) -> Values:
        """Share of abnormal units that is found at a given specificity.

        Args:
            specificity: Smallest share of normal units that pass as normal, 0 to 1.
            weights: As in :meth:`auroc`.

        Returns:
            ``(B,)``, at the best threshold that keeps the specificity; not a number where a class is empty.
        """
        counts = self._count(weights)
        allowed = (1 - specificity) * counts.normals
        kept = counts.at_or_above <= allowed + 1e-9  # sums of whole numbers, shares are not exact
        found = (counts.found * kept).max(0, initial=0)
        return _share(np.where(counts.normals > 0, found, np.nan), counts.abnormals)

    def decided(self, decisions: ArrayLike, weights: ArrayLike | None = None) -> dict[str, Values]:
        """Shares of right decisions, whatever they were based on.

        Args:
            decisions: Whether each unit was called abnormal, ``(N,)``.
            weights: As in :meth:`auroc`.

        Returns:
            ``sensitivity``, ``specificity``, ``PPV`` (share of the abnormal among those called so) and ``NPV`` (share
            of the normal among those called normal), ``(B,)`` each, not a number where there are none to share.

        Example:
            >>> decided = Ranking([0, 0, 1, 1], [0.1, 0.4, 0.3, 0.9]).decided([False, True, False, True])
            >>> decided["sensitivity"].tolist(), decided["PPV"].tolist()
            ([0.5], [0.5])
        """
        called = np.asarray(decisions, dtype=bool)
        counts = self._count(weights)
        columns = _columns(weights, len(called))
        false, true = (columns[places[called[places]]].sum(0) for places in (self._normal, self._abnormal))
        passed, missed = counts.normals - false, counts.abnormals - true
        return {
            "sensitivity": _share(true, counts.abnormals),
            "specificity": _share(passed, counts.normals),
            "PPV": _share(true, true + false),
            "NPV": _share(passed, passed + missed),
        }

    def placements(self) -> Values:
        """Share of the other class that lies on the right side of each unit, ties counted half, ``(N,)``.

        They are the structural components of DeLong et al. 1988 (Biometrics 44:837), reckoned from midranks (Sun and Xu
        2014, IEEE Signal Processing Letters 21:1389). Their mean over either class is the AUROC.

        >>> Ranking([0, 0, 1, 1], [0.1, 0.4, 0.3, 0.9]).placements().tolist()
        [1.0, 0.5, 0.5, 1.0]
        """
        placements = np.empty(len(self._normal) + len(self._abnormal))
        for own, others, places in ((0, 1, self._normal), (1, 0, self._abnormal)):
            first, last = (
                np.searchsorted(self._below[others], self._below[own], side=side) for side in ("left", "right")
            )
            above = (first + last) / 2 / max(len(self._below[others]), 1)
            placements[places] = 1 - above if own else above
        return placements

    def cumulative(self, weights: ArrayLike | None = None) -> tuple[Values, Values]:
        """Weights of normal and of abnormal units at or above each score, each ``(B, steps + 1)``, from none to all."""
        columns = _columns(weights, len(self._normal) + len(self._abnormal))
        scores = np.unique(np.concatenate(self._below))
        normal, abnormal = (
            _cumulated(columns[places])[np.r_[0, np.searchsorted(below, scores, side="right")]].T
            for places, below in zip((self._normal, self._abnormal), self._below, strict=True)
        )
        return normal, abnormal

    def _count(self, weights: ArrayLike | None) -> _Counts:
        """Counts of the units, kept for the next metric of the same weights."""
        if self._counted is None or self._counted[0] is not weights:
            columns = _columns(weights, len(self._normal) + len(self._abnormal))
            below_normal, below = self._below
            normal, abnormal = _cumulated(columns[self._normal]), columns[self._abnormal]
            above, at_or_above = (normal[np.searchsorted(below_normal, below, side=side)] for side in ("left", "right"))
            cumulated = _cumulated(abnormal)
            found = cumulated[np.searchsorted(below, below, side="right")]
            counts = _Counts(abnormal, found, above, at_or_above, cumulated[-1], normal[-1])
            self._counted = (weights, counts)
        return self._counted[1]


class _Counts(NamedTuple):
    """Weights of the abnormal units and of what lies above each, ``(abnormal units, B)``, and of all units, ``(B,)``.

    Metrics change at abnormal units only, so that nothing is counted at the many normal ones.
    """

    abnormal: Values
    found: Values  # abnormal units of its score or a higher one
    above: Values  # normal units of a higher score
    at_or_above: Values  # normal units of its score or a higher one
    abnormals: Values
    normals: Values


_FEW = 64
"""Columns below which numpy's own sum is faster than one addition per row."""


def _columns(weights: ArrayLike | None, units: int) -> Values:
    """The weights of the units, ``(N, B)``."""
    return np.ones((units, 1)) if weights is None else np.asarray(weights, dtype=np.float64).T


def _cumulated(rows: Values) -> Values:
    """Sums of the first rows of ``(N, B)``, from none to all, ``(N + 1, B)``."""
    sums = np.zeros((len(rows) + 1, rows.shape[1]))
    if rows.shape[1] < _FEW:
        np.cumsum(rows, 0, out=sums[1:])
        return sums
    # numpy goes down each column, which is ten times slower.
    for place, row in enumerate(rows):
        np.add(sums[place], row, out=sums[place + 1])
    return sums


def _sum(first: Values, second: Values) -> Values:
    """Sum over the rows of products, ``(B,)``."""
    total: Values = np.einsum("nb,nb->b", first, second)
    return total


def _share(part: Values, whole: Values) -> Values:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
