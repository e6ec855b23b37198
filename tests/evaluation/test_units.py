from __future__ import annotations

import pandas as pd

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
