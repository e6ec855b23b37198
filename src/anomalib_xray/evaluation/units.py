"""Score tables, a row per image: their columns, their reading, and their images, studies and patients."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from anomalib_xray.errors import XrayError
from anomalib_xray.io.tables import identity
from anomalib_xray.io.text import read_frame

if TYPE_CHECKING:
    import pandas as pd

TEST_SCORES, VALIDATION_SCORES, PREDICTIONS = "scores.csv", "val_scores.csv", "predictions.csv"
"""Names of the tables of a test, a validation and a prediction."""

ID_COLUMNS = ("image_path", "source_path", "patient", "study", "label")
"""Columns of the image of a row, and of its label."""

CHOSEN = "pred_score"
"""Column of the model's chosen score."""

DECISION = "pred_label"
"""Column of the decision at the model's threshold."""

LEVELS: dict[str, list[str]] = {"image": ["source_path"], "study": ["patient", "study"], "patient": ["patient"]}
"""Units of evaluation and the columns that identify one."""


def read_scores(path: Path) -> pd.DataFrame:
    """Reads a score table.

    Paths and ids are text, empty where unknown, ids in the form in which they are compared; an unknown label, decision
    or score is missing.

    Raises:
        XrayError: There is no such file, or it is no score table.
    """
    if not path.exists():
        made_by = "anomalib train or validate" if path.name == VALIDATION_SCORES else "anomalib test or predict"
        raise XrayError(f"{path} does not exist; {made_by} writes it.")
    table = read_frame(path, ("image_path", "label"), text=ID_COLUMNS[:-1], advice="it is no score table")
    return table.assign(**_compared(table))


def scores_of(table: pd.DataFrame) -> list[str]:
    """The scores of a score table, the chosen one first.

    >>> import pandas as pd
    >>> scores_of(pd.DataFrame(columns=[*ID_COLUMNS, "pred_label", CHOSEN, "mse"]))
    ['pred_score', 'mse']
    """
    return [str(column) for column in table.columns if column not in (*ID_COLUMNS, DECISION)]


def check_score(table: pd.DataFrame, score: str, path: Path) -> None:
    """Refuses the name of a score that the table of a file does not have.

    Raises:
        XrayError: There is no such score.
    """
    if score not in (known := scores_of(table)):
        raise XrayError(f"{path} has no score {score}; it has {', '.join(known)}.")


def units_of(table: pd.DataFrame, level: str, scores: list[str]) -> pd.DataFrame | None:
    """Merges the rows of a score table into one per unit.

    Several prepared images of one original count as one image with the highest of each score: an anomaly of one hand is
    an anomaly of the picture. A study's or patient's score is the mean over its images, as MURA's authors combine the
    views of a study (Rajpurkar et al. 2017, section 3); a maximum would grow with the number of images, and abnormal
    studies have more of them. Its label is abnormal if any image's is.

    Args:
        table: Score table with the columns ``image_path``, ``patient``, ``study``, ``label`` (0, 1 or missing) and the
            scores; ``source_path`` tells which rows are of one original, without it each row is an image.
        level: ``image``, ``study`` or ``patient``.
        scores: Names of the scores.

    Returns:
        Columns ``patient``, ``label`` (0 or 1) and the scores, labelled units only; nothing where an image lacks the
        id that the level needs.

    Example:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"image_path": ["a", "b"], "patient": ["1", "1"], "label": [0, 1], "mse": [0.5, 1.5]})
        >>> units_of(table, "patient", ["mse"])
          patient  label  mse
        0       1      1  1.0
    """
    images = one_row_per_original(table.assign(**_compared(table))[table["label"].notna()], scores)
    keys = LEVELS[level]
    # Empty ids come back from a CSV file as missing ones.
    if (images[keys].isna() | (images[keys] == "")).to_numpy().any():
        return None
    rules = {"label": "max", **dict.fromkeys(scores, "mean")}
    if "patient" not in keys and "patient" in images:
        rules = {"patient": "first", **rules}
    units = _merged(images, keys, rules)
    return units.assign(label=units["label"].astype(int))


def _compared(table: pd.DataFrame) -> dict[str, pd.Series[str]]:
    """The ids of a table in the form in which ids are compared; missing ones stay so."""
    found = {}
    for name in ("patient", "study"):
        if name in table:
            forms = {value: identity(value) for value in table[name].unique() if isinstance(value, str)}
            changed = {value: form for value, form in forms.items() if value != form}
            found[name] = table[name].replace(changed) if changed else table[name]
    return found


def _merged(table: pd.DataFrame, keys: list[str], rules: dict[str, str]) -> pd.DataFrame:
    """Merges the rows of equal keys, column by column."""
    if table.duplicated(keys).any():
        return table.groupby(keys, sort=False).agg(rules).reset_index()
    # Nothing to merge, as in most tables of images.
    means = {name: float for name, rule in rules.items() if rule == "mean"}
    return table[[*keys, *rules]].astype(means).reset_index(drop=True)


def one_row_per_original(table: pd.DataFrame, scores: list[str]) -> pd.DataFrame:
    """Merges the rows of an original: the highest of each score, and the label and the ids, which they share.

    Args:
        table: As that of :func:`units_of`.
        scores: Names of the scores.

    Returns:
        Columns ``source_path``, ``patient``, ``study``, ``label`` and the scores, a row per original; without a column
        ``source_path`` each row is one, and the other columns stay.
    """
    if "source_path" not in table:
        return table.assign(source_path=table["image_path"])
    source = table["source_path"].replace("", None).fillna(table["image_path"])
    rules = {"patient": "first", "study": "first", "label": "max", **dict.fromkeys(scores, "max")}
    return _merged(table.assign(source_path=source), ["source_path"], rules)
