"""Units of evaluation: images, studies and patients, from the rows of a score table."""

from __future__ import annotations

import pandas as pd

from anomalib_xray.io.tables import identity

LEVELS: dict[str, list[str]] = {"image": ["source_path"], "study": ["patient", "study"], "patient": ["patient"]}
"""Units of evaluation and the columns that identify one."""

IDENTITY_COLUMNS = ("image_path", "source_path", "patient", "study", "label", "pred_label", "pred_score")
"""Columns of a score table before the named scores."""


def units_of(table: pd.DataFrame, level: str, scores: list[str]) -> pd.DataFrame | None:
    """Brings the rows of a score table to one row a unit.

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
    """
    ids = {name: table[name].map(_compared) for name in ("patient", "study") if name in table}
    images = _one_row_an_original(table.assign(**ids)[table["label"].notna()], scores)
    keys = LEVELS[level]
    # Empty ids come back from a CSV file as missing ones.
    if (images[keys].isna() | (images[keys] == "")).to_numpy().any():
        return None
    rules = {"label": "max", **dict.fromkeys(scores, "mean")}
    if "patient" not in keys and "patient" in images:
        rules = {"patient": "first", **rules}
    units = images.groupby(keys, sort=False).agg(rules).reset_index()
    return units.assign(label=units["label"].astype(int))


def _compared(value: object) -> object:
    """An id in the form in which ids are compared; what is missing stays so."""
    return identity(value) if isinstance(value, str) else value


def _one_row_an_original(table: pd.DataFrame, scores: list[str]) -> pd.DataFrame:
    """Merges the rows of an original: the highest of each score, and the label and the ids, which they share."""
    if "source_path" not in table:
        return table.assign(source_path=table["image_path"])
    source = table["source_path"].replace("", None).fillna(table["image_path"])
    rules = {"patient": "first", "study": "first", "label": "max", **dict.fromkeys(scores, "max")}
    return table.assign(source_path=source).groupby("source_path", sort=False).agg(rules).reset_index()
