"""Who is in a data set, and groups of images by what its table says of them: view, side, age, device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

UNKNOWN = "unknown"

MOST_VALUES = 6
"""Numbers of more different values are put into bands, and of names the rarest are put together."""

BANDS = 3
"""Bands of a number: thirds, so that none of them is small."""

OTHERS = "all others"


def summary_of(samples: pd.DataFrame, characteristics: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Counts what a samples table holds, by split.

    Args:
        samples: The table, see :mod:`anomalib_xray.data.table`.
        characteristics: Columns that say more of an image.

    Returns:
        Of each split ``pictures``, ``originals``, ``patients``, ``normal`` and ``abnormal`` pictures, and in
        ``characteristics`` a text on each of these.

    Example:
        >>> samples = pd.DataFrame({"split": ["train", "test"], "source": ["a", "b"], "patient": ["1", "2"]})
        >>> summary_of(samples.assign(label_index=[0, 1], view="frontal"), ["view"])["test"]["characteristics"]
        {'view': 'frontal 1'}
    """
    return {
        str(split): {
            "pictures": len(rows),
            "originals": int(rows["source"].nunique()),
            "patients": int(rows["patient"].nunique()),
            "normal": int((rows["label_index"] == 0).sum()),
            "abnormal": int((rows["label_index"] == 1).sum()),
            "characteristics": {name: _described(rows[name]) for name in characteristics},
        }
        for split, rows in samples.groupby("split", sort=False)
    }


def _described(values: pd.Series[str]) -> str:
    """Median and range of numbers, or counts of names."""
    numbers = _numbers(values)
    if numbers is None:
        counts = grouped(values).value_counts(sort=False)
        return ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    missing = int(numbers.isna().sum())
    text = f"median {numbers.median():g}, {numbers.min():g} to {numbers.max():g}"
    return text + (f", {UNKNOWN} {missing}" if missing else "")


def grouped(values: pd.Series[Any]) -> pd.Series[Any]:
    """Groups of the values of a column, as an ordered category: names as they are, thirds of numbers.

    Numbers of few different values count as names, and names beyond :data:`MOST_VALUES`, the rarest, are one group.

    Args:
        values: Text or numbers, empty or missing where unknown, ``(N,)``.

    Returns:
        The name of each value's group, ``(N,)``; groups rise, or the most frequent comes first, and the unknown last.

    Example:
        >>> grouped(pd.Series(["left", "right", "left", ""])).tolist()
        ['left', 'right', 'left', 'unknown']
        >>> grouped(pd.Series(range(30))).cat.categories.tolist()
        ['0 to 9', '10 to 19', '20 to 29']
    """
    numbers = _numbers(values)
    if numbers is not None:
        return _in_bands(numbers)
    names = values.astype(str).where(values.notna() & (values.astype(str) != ""), UNKNOWN)
    order = [name for name in names.value_counts().index if name != UNKNOWN]
    if len(order) > MOST_VALUES:
        kept = order[: MOST_VALUES - 1]
        names, order = names.where(names.isin([*kept, UNKNOWN]), OTHERS), [*kept, OTHERS]
    return _ordered(names, order)


def _numbers(values: pd.Series[Any]) -> pd.Series[float] | None:
    """A column as numbers, if it holds many different ones and nothing else."""
    numbers = pd.to_numeric(values, errors="coerce").replace([np.inf, -np.inf], np.nan)
    given = values.notna() & (values.astype(str) != "")
    return numbers if numbers[given].notna().all() and numbers.nunique() > MOST_VALUES else None


def _in_bands(numbers: pd.Series[float]) -> pd.Series[Any]:
    edges = np.unique(np.quantile(numbers.dropna(), np.arange(1, BANDS) / BANDS, method="lower"))
    places = np.searchsorted(edges, numbers, side="left")
    names = pd.Series(UNKNOWN, index=numbers.index, dtype=object)
    order = []
    for place in range(len(edges) + 1):
        inside = (places == place) & numbers.notna()
        if inside.any():
            order.append(f"{numbers[inside].min():.3g} to {numbers[inside].max():.3g}")
            names[inside] = order[-1]
    return _ordered(names, order)


def _ordered(names: pd.Series[Any], order: Sequence[str]) -> pd.Series[Any]:
    known = [*order, *([UNKNOWN] if (names == UNKNOWN).any() else [])]
    return names.astype(pd.CategoricalDtype(list(dict.fromkeys(known)), ordered=True))
