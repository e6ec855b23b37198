"""Intervals and paired differences, from patients drawn with replacement, and without draws as a cross-check.

Images of one patient are alike, so that whole patients are drawn (Efron and Tibshirani 1993, chapter 8); an interval
from images drawn one by one would be too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.ranking import Ranking, Values

REPLICATES = 2000
"""Draws of patients; the ends of a 95 % interval then vary by about a hundredth of its width."""

Metric = Callable[[Ranking, Values | None], Values]

METRICS: dict[str, Metric] = {
    "AUROC": Ranking.auroc,
    "AP": Ranking.average_precision,
    "sensitivity_at_90": lambda ranking, weights: ranking.sensitivity(0.9, weights),
}
"""Metrics of a ranking by name, as functions of it and of ``(B, N)`` weights."""


class Estimate(NamedTuple):
    """A figure of the units as they are, with the ends of its interval."""

    value: float
    low: float
    high: float


def patient_weights(patients: pd.Series[str], replicates: int = REPLICATES, seed: int = 0) -> Values:
    """Draws as many patients as there are, with replacement, again and again.

    Args:
        patients: Patient of each unit, ``(N,)``.
        replicates: Number B of draws.
        seed: Seed of the draws; of equal patients and seeds the draws are the same, so that metrics can be compared in
            pairs.

    Returns:
        How often each unit was drawn, ``(B, N)``.

    Example:
        >>> patient_weights(pd.Series(["a", "a", "b"])).shape
        (2000, 3)
    """
    codes, names = pd.factorize(patients, sort=True)
    count = len(names)
    drawn = np.random.default_rng(seed).integers(count, size=(replicates, count))
    times = np.zeros((count, replicates))
    np.add.at(times, (drawn, np.arange(replicates)[:, None]), 1)
    # Units one after the other, so that a ranking takes them in its order at little cost.
    return times[codes].T


def over_seeds(values: Mapping[int, float]) -> tuple[float, float]:
    """Mean and standard deviation over the runs of several seeds; the latter is not a number for a single one.

    >>> over_seeds({0: 0.5, 1: 0.75, 2: 1.0})
    (0.75, 0.25)
    """
    figures = np.asarray(list(values.values()), dtype=np.float64)
    return float(figures.mean()), float(figures.std(ddof=1)) if len(figures) > 1 else float("nan")


def interval(value: float, replicates: Values, level: float = 0.95) -> Estimate:
    """The percentile interval of a figure at a level, from the figures of all draws, ``(B,)``.

    Draws without a figure (not a number) are left out.

    Raises:
        XrayError: No draw gave a figure.

    Example:
        >>> interval(0.5, np.linspace(0, 1, 101), level=0.5)
        Estimate(value=0.5, low=0.25, high=0.75)
    """
    kept = replicates[np.isfinite(replicates)]
    if not len(kept):
        raise XrayError("No draw of patients has normal and abnormal ones; there are too few for an interval.")
    low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(value), float(low), float(high))


def standard_error(placements: Values, labels: ArrayLike, patients: Sequence[str] | None = None) -> float:
    """Standard error of an AUROC, or of a difference or a mean of several, without draws.

    That of DeLong et al. 1988 (Biometrics 44:837), or with patients its extension to clusters by Obuchowski 1997
    (Biometrics 53:567, section 2), which is the same where each has one unit.

    Args:
        placements: As of :meth:`.ranking.Ranking.placements`, or a difference or a mean of several of the same units,
            ``(N,)``.
        labels: 1 abnormal, 0 normal, ``(N,)``.
        patients: Patient of each unit; each unit is one by default.

    Returns:
        The standard error; not a number where a class has a single patient.

    Example:
        >>> round(standard_error(np.array([1.0, 0.5, 0.5, 1.0]), [0, 0, 1, 1]), 4)
        0.3536
    """
    abnormal = np.asarray(labels) == 1
    codes = np.arange(len(abnormal)) if patients is None else pd.factorize(np.asarray(patients))[0]
    value = placements[abnormal].mean()
    sums, squares = [], []
    for places in (~abnormal, abnormal):
        of_class = np.bincount(codes[places], placements[places] - value, minlength=codes.max() + 1) / places.sum()
        patients_of_class = len(np.unique(codes[places]))
        if patients_of_class < 2:
            return float("nan")
        sums.append(of_class)
        squares.append((of_class**2).sum() * patients_of_class / (patients_of_class - 1))
    count = len(np.unique(codes))
    return float(np.sqrt(max(sum(squares) + 2 * (sums[0] * sums[1]).sum() * count / (count - 1), 0.0)))


def simultaneous(figures: Sequence[tuple[float, Values]], patients: int, level: float = 0.95) -> list[Estimate]:
    """Simultaneous intervals: with the probability ``level`` every one of them holds its true value.

    Of twenty intervals of 95 % one leaves out its true value by chance. These are wider: in each draw the figure that
    deviates most, in units of its standard error, decides (the studentised maximum, Romano and Wolf 2005), so that
    correlated figures cost less than independent ones. As patients are few, the width is that of Student's t for the
    smaller class, and never below half a patient of it.

    Args:
        figures: Each figure with its replicates, ``(B,)``, of the same draws or of independent ones.
        patients: Number of patients in the smaller class.
        level: Share of the draws in which all intervals hold.

    Returns:
        An estimate for each figure, with no end where a class has a single patient.

    Raises:
        XrayError: No draw gave all figures.

    Example:
        >>> [estimate] = simultaneous([(0.5, np.linspace(0, 1, 101))], patients=30)
        >>> estimate.low < 0.5 < estimate.high
        True
    """
    from scipy.special import ndtr, ndtri, stdtrit  # type: ignore[import-untyped]  # scipy.stats takes 1 s to import

    values = np.array([value for value, _ in figures])
    replicates = np.stack([drawn for _, drawn in figures])
    replicates = replicates[:, np.isfinite(replicates).all(0)]
    if not replicates.size:
        raise XrayError("No draw of patients has normal and abnormal ones; there are too few for an interval.")
    errors = np.maximum(replicates.std(1), 0.5 / max(patients, 1))
    largest = (np.abs(replicates - values[:, None]) / errors[:, None]).max(0)
    factor = max(np.quantile(largest, level, method="higher"), -ndtri((1 - level) / 2))
    widths = errors * (-stdtrit(patients - 1, ndtr(-factor)) if patients > 1 else np.inf)
    return [
        Estimate(float(value), float(value - width), float(value + width))
        for value, width in zip(values, widths, strict=True)
    ]
