"""Curves with bands: means over seeds, with 95 % bands from patients drawn with replacement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from anomalib_xray.evaluation.bootstrap import patient_weights
from anomalib_xray.evaluation.ranking import Ranking, Values

DRAWS = 300
"""Draws of patients; the edge of a band needs fewer than a figure."""

GRID = np.linspace(0, 1, 81)
"""Places of the curves."""

_ENDS = (0.025, 0.975)

_Metric = Callable[[Ranking, Values | None, Values], Values]


class Curve(NamedTuple):
    """Mean ``y`` over the seeds at places ``x``, and its 95 % band from ``low`` to ``high``, ``(N,)`` each."""

    x: Values
    y: Values
    low: Values
    high: Values


def roc_curve(runs: Sequence[pd.DataFrame]) -> Curve:
    """The receiver operating characteristic: sensitivity at each false positive rate.

    Args:
        runs: Units of each seed, with the columns ``patient``, ``label`` (both classes) and ``score``.

    Example:
        >>> units = pd.DataFrame({"patient": ["a", "b", "c", "d"], "label": [0, 0, 1, 1], "score": [1, 2, 3, 4]})
        >>> float(roc_curve([units]).y.min())
        1.0
    """
    return _curve(runs, GRID, _sensitivities)


def pr_curve(runs: Sequence[pd.DataFrame]) -> Curve:
    """Precision at each sensitivity (recall), of the highest threshold that reaches it, without interpolation."""
    return _curve(runs, GRID[1:], _precisions)


def aurocs(runs: Sequence[pd.DataFrame]) -> tuple[float, float, float]:
    """AUROC as mean over seeds, and the ends of its 95 % interval."""
    rankings = [Ranking(run["label"], run["score"]) for run in runs]
    value = float(np.mean([ranking.auroc()[0] for ranking in rankings]))
    drawn = np.mean(
        [ranking.auroc(_weights(tuple(run["patient"]))) for ranking, run in zip(rankings, runs, strict=True)], 0
    )
    low, high = np.nanquantile(drawn, _ENDS)
    return value, float(low), float(high)


def has_both_classes(runs: Sequence[pd.DataFrame]) -> bool:
    """Whether there are units, normal and abnormal ones in every run."""
    return bool(runs) and all(set(run["label"]) == {0, 1} for run in runs)


def _sensitivities(ranking: Ranking, weights: Values | None, places: Values) -> Values:
    normal, abnormal = ranking.cumulative(weights)
    pairs = zip(_rates(normal), _rates(abnormal), strict=True)
    return np.stack([np.interp(places, false, true) for false, true in pairs])


def _precisions(ranking: Ranking, weights: Values | None, places: Values) -> Values:
    normal, abnormal = ranking.cumulative(weights)
    flagged = normal + abnormal
    precision = np.divide(abnormal, flagged, out=np.full_like(flagged, np.nan), where=flagged > 0)
    # A share that is reached exactly must not be missed by rounding.
    reached = [np.searchsorted(recall, places - 1e-12) for recall in _rates(abnormal)]
    last = precision.shape[1] - 1  # of draws without abnormal units, which reach nothing
    return np.stack([one[np.minimum(first, last)] for one, first in zip(precision, reached, strict=True)])


def _rates(cumulative: Values) -> Values:
    """Shares of the whole; 0 in a draw without any unit of the class."""
    return cumulative / np.maximum(cumulative[:, -1:], 1)


def _curve(runs: Sequence[pd.DataFrame], places: Values, of: _Metric) -> Curve:
    values, drawn = [], []
    for run in runs:
        ranking = Ranking(run["label"], run["score"])
        values.append(of(ranking, None, places)[0])
        weights = _weights(tuple(run["patient"]))
        abnormal = run["label"].to_numpy() == 1
        curves = of(ranking, weights, places)
        curves[~(weights[:, abnormal].any(1) & weights[:, ~abnormal].any(1))] = np.nan  # such a draw has no curve
        drawn.append(curves)
    low, high = np.nanquantile(np.mean(drawn, axis=0), _ENDS, axis=0)
    return Curve(places, np.mean(values, axis=0), low, high)


@lru_cache(maxsize=2)
def _weights(patients: tuple[str, ...]) -> Values:
    return patient_weights(pd.Series(patients), DRAWS)
