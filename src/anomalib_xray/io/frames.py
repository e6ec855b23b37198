"""CSV files of this package as data frames; :mod:`anomalib_xray.io.tables` reads tables of other programs."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from anomalib_xray.errors import XrayError
from anomalib_xray.io.tables import unescaped

if TYPE_CHECKING:
    import pandas as pd


def read_frame(path: Path, needed: Collection[str], *, text: Collection[str], advice: str) -> pd.DataFrame:
    """Reads a table that this package wrote.

    Args:
        path: The file.
        needed: Columns that it must have.
        text: Columns whose cells stay as they were written; in others an empty cell is a missing number.
        advice: What to do where it is unusable, which ends the message.

    Returns:
        The table.

    Raises:
        XrayError: The file cannot be read, is no such table, or lacks a column.
    """
    import pandas as pd

    try:
        numbers = {str(name) for name in pd.read_csv(path, nrows=0)} - set(text)
        table = pd.read_csv(
            path,
            dtype=dict.fromkeys(text, str),
            keep_default_na=False,
            na_values={name: ["", "nan"] for name in numbers},
        )
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        reason = " ".join(str(error).split())
        raise XrayError(f"{path} cannot be read as a CSV table: {reason}; {advice}.") from error
    if lacking := [column for column in needed if column not in table]:
        raise XrayError(f"{path} has no column {', '.join(lacking)}; {advice}.")
    return table.assign(**{name: table[name].map(unescaped) for name in text if name in table})
