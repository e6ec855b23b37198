from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from anomalib_xray.evaluation.units import units_of


def test_forms_of_one_id_are_one_patient() -> None:
    table = pd.DataFrame(
        {
            "image_path": list("abcd"),
            "patient": ["p1", "p1 ", "Mu\u0308ller", "M\u00fcller"],
            "study": ["s", " s", "s", "s"],
            "label": [0, 1, 0, 0],
            "mse": [1.0, 3.0, 5.0, 7.0],
        }
    )
    for level in ("patient", "study"):
        units = units_of(table, level, ["mse"])
        assert units is not None
        assert units[["patient", "label", "mse"]].to_numpy().tolist() == [["p1", 1, 2.0], ["M\u00fcller", 0, 6.0]]


@pytest.mark.parametrize("level", ["image", "study", "patient"])
@pytest.mark.parametrize("views", [1, 2])
def test_rows_are_merged_as_one_by_one(level: str, views: int) -> None:
    """Units of a table in disorder, with some labels unknown, beside those found by going through the rows."""
    random = np.random.default_rng(0)
    originals = np.repeat(np.arange(30), views)
    table = pd.DataFrame(
        {
            "image_path": [f"{original}/{place}.png" for place, original in enumerate(originals)],
            "source_path": [f"{original}.png" for original in originals],
            "patient": [f"p{original // 4}" for original in originals],
            "study": [f"s{original // 2 % 2}" for original in originals],
            "label": (originals // 3 % 2).astype(float),
            "mse": random.integers(9, size=len(originals)),
        }
    ).sample(frac=1, random_state=1)
    table.loc[table["source_path"].isin(["3.png", "8.png"]), "label"] = np.nan
    images: dict[str, list[Any]] = {}
    for row in table.dropna(subset="label").itertuples():
        image = images.setdefault(row.source_path, [row.patient, row.study, row.label, row.mse])
        image[3] = max(image[3], row.mse)
    expected: dict[tuple[str, ...], list[list[Any]]] = {}
    for source, (patient, study, *figures) in images.items():
        key = {"image": (source,), "study": (patient, study), "patient": (patient,)}[level]
        expected.setdefault(key, []).append([patient, *figures])
    units = units_of(table, level, ["mse"])
    assert units is not None
    keys = {"image": ["source_path"], "study": ["patient", "study"], "patient": ["patient"]}[level]
    assert [tuple(row) for row in units[keys].to_numpy()] == list(expected)
    for (_, row), members in zip(units.iterrows(), expected.values(), strict=True):
        patients, labels, scores = zip(*members, strict=True)
        assert (row["patient"], row["label"]) == (patients[0], max(labels))
        assert row["mse"] == pytest.approx(np.mean(scores))
