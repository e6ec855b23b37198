"""One figure of a shortcut, and of a model, wherever it stands in a report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from anomalib_xray.evaluation.shortcuts import SHORTCUTS as NUMBERS
from anomalib_xray.experiments.grid import SHORTCUTS, Grid
from anomalib_xray.experiments.run_grid import folder_of
from anomalib_xray.experiments.train import SCORES
from anomalib_xray.jobs import RESULT
from anomalib_xray.report.charts import draw_curves
from anomalib_xray.report.findings import findings_of
from anomalib_xray.report.lines import main_table
from anomalib_xray.report.material import Material, parts_of
from anomalib_xray.report.results import UNVALIDATED, read_rows

from .conftest import finish


@pytest.mark.parametrize("validated", [True, False])
def test_a_shortcut_has_one_figure(validated: bool, grid: Grid, tmp_path: Path) -> None:
    cells = [cell for cell in grid.cells if cell.data == "chest" and cell.model in (SHORTCUTS, "Cae", "Padim")]
    grid = replace(grid, cells=cells, curve_cells=[])
    for cell in cells:
        finish(tmp_path, cell, evidence=False)
    # Small pictures are the abnormal ones.
    folder = folder_of(tmp_path, next(cell for cell in cells if cell.model == SHORTCUTS))
    table = pd.read_csv(folder / SCORES)
    table["pixels"] -= 3.0 * table["label"]
    table.to_csv(folder / SCORES, index=False)
    if validated:
        result = json.loads((folder / RESULT).read_text())
        directions = {**dict.fromkeys(NUMBERS, 1), "pixels": -1}
        (folder / RESULT).write_text(json.dumps({**result, "directions": directions}))
    rows = read_rows(grid, tmp_path)
    (part,) = parts_of(rows, grid)
    auroc = roc_auc_score(table["label"], -table["pixels"])
    precision = average_precision_score(table["label"], -table["pixels"])
    assert auroc > 0.9

    best = part.best_shortcut
    assert best is not None
    assert best.estimates["AUROC"].value == pytest.approx(auroc)
    assert (UNVALIDATED in best.notes) == (not validated)
    assert "small ones are abnormal" in best.notes
    (line,) = [line for line in main_table(part, grid.selection).lines if line[1].text == "pixels"]
    assert f"{auroc:.3f}" in str(line[2].text)
    texts = [sentence.text for sentence in findings_of(part)]
    (finding,) = [text for text in texts if text.startswith(f"Pixels ({auroc:.3f}) tells the classes apart")]
    assert finding.endswith("was chosen on the test images.") == (not validated)
    (roc, recall), _ = draw_curves(part, Material(grid, tmp_path))
    assert (roc.keys[-1].name, roc.keys[-1].note) == ("shortcut pixels", f"{auroc:.3f}")
    assert (recall.keys[-1].name, recall.keys[-1].note) == ("shortcut pixels", f"{precision:.3f}")
    # Legends of precision and recall show average precision, of models too.
    figures = {part.label(row): row.estimates["AP"].value for row in part.models}
    assert {key.name: key.note for key in recall.keys[:-1]} == {
        key.name: f"{figures[key.name]:.3f}" for key in roc.keys[:-1]
    }
