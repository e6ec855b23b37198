"""One figure of a shortcut, and of a model, wherever it stands in a report."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.shortcuts import SHORTCUTS as NUMBERS
from anomalib_xray.experiments.grid import SCORES, SHORTCUTS, Cell, Grid
from anomalib_xray.experiments.run_grid import folder_of
from anomalib_xray.jobs import RESULT
from anomalib_xray.report.charts import aurocs_by_k, draw_curves, draw_top_k, draw_training_size
from anomalib_xray.report.findings import findings_of
from anomalib_xray.report.page_tables import main_table
from anomalib_xray.report.parts import Part, parts_of
from anomalib_xray.report.results import UNVALIDATED, CellOutputs, read_rows
from anomalib_xray.report.rows import Row

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
    rows = read_rows(CellOutputs(grid, tmp_path))
    (part,) = parts_of(rows, grid)
    auroc = roc_auc_score(table["label"], -table["pixels"])
    precision = average_precision_score(table["label"], -table["pixels"])
    assert auroc > 0.9

    best = part.best_shortcut
    assert best is not None
    assert best.estimates["AUROC"].value == pytest.approx(auroc)
    assert (UNVALIDATED in best.notes) == (not validated)
    assert "small ones are abnormal" in best.notes
    (row,) = [row for row in main_table(part, grid.selection).rows if row[1].text == "pixels"]
    assert f"{auroc:.3f}" in str(row[2].text)
    texts = [sentence.text for sentence in findings_of(part)]
    (finding,) = [text for text in texts if text.startswith(f"Pixels ({auroc:.3f}) tells the classes apart")]
    assert finding.endswith("was chosen on the test images.") == (not validated)
    (roc, recall), _ = draw_curves(part, CellOutputs(grid, tmp_path))
    assert (roc.keys[-1].name, roc.keys[-1].note) == ("shortcut pixels", f"{auroc:.3f}")
    assert (recall.keys[-1].name, recall.keys[-1].note) == ("shortcut pixels", f"{precision:.3f}")
    # Legends of precision and recall show average precision, of models too.
    figures = {part.label(row): row.estimates["AP"].value for row in part.models}
    assert {key.name: key.note for key in recall.keys[:-1]} == {
        key.name: f"{figures[key.name]:.3f}" for key in roc.keys[:-1]
    }


@pytest.fixture(scope="module")
def outputs(grid: Grid, out: Path) -> CellOutputs:
    return CellOutputs(grid, out)


@pytest.fixture(scope="module")
def part(rows: list[Row], grid: Grid) -> Part:
    return parts_of(rows, grid)[0]


def test_k_is_judged_by_the_unit_of_the_tables(grid: Grid, out: Path, part: Part) -> None:
    cell = part.cells["Cae"][0]
    table = pd.read_csv(folder_of(out, cell) / "top_k.csv")
    images = aurocs_by_k(cell, CellOutputs(grid, out))
    assert images == {
        name: pytest.approx(roc_auc_score(table["label"], table[name])) for name in ("k=10", "k=200", "k=0.01", "k=1.0")
    }
    patients = pd.read_csv(folder_of(out, cell) / "scores.csv", dtype=str)["patient"]
    means = table.groupby(patients).mean(numeric_only=True)
    by_patient = aurocs_by_k(cell, CellOutputs(replace(grid, level="patient"), out))
    assert by_patient["k=200"] == pytest.approx(roc_auc_score(means["label"], means["k=200"]))
    assert by_patient["k=200"] != pytest.approx(images["k=200"])


def test_numbers_and_shares_have_a_chart_each(part: Part, outputs: CellOutputs) -> None:
    pixels, shares = draw_top_k(part, outputs)
    assert pixels.title == "AUROC against k, pixels"
    assert shares.title == "AUROC against k, share of the foreground"
    assert [key.name for key in pixels.keys] == ["Cae"]


def test_a_table_of_other_images_is_refused(tmp_path: Path, grid: Grid, out: Path, part: Part) -> None:
    cell = part.cells["Cae"][0]
    folder = folder_of(tmp_path, cell)
    folder.mkdir(parents=True)
    for name in ("scores.csv", "top_k.csv"):
        table = pd.read_csv(folder_of(out, cell) / name)
        (table if name == "top_k.csv" else table[1:]).to_csv(folder / name, index=False)
    with pytest.raises(XrayError, match=r"top_k\.csv has images that scores\.csv beside it has not"):
        aurocs_by_k(cell, CellOutputs(grid, tmp_path))


def _points(svg: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<circle class="dot s1" cx="([\d.]+)" cy="([\d.]+)"', svg)]


def test_training_sizes_end_with_all_images(part: Part, outputs: CellOutputs, out: Path) -> None:
    figure = draw_training_size(part, outputs)
    assert figure is not None
    points = _points(figure.svg)
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert len(points) == 3

    def auroc(cells: list[Cell]) -> float:
        tables = [pd.read_csv(folder_of(out, cell) / "scores.csv") for cell in cells]
        return float(np.mean([roc_auc_score(table["label"], table["mse"]) for table in tables]))

    sized = part.sized["Cae"]
    values = [auroc([cell for cell in sized if cell.training_size == size]) for size in (10, 20)]
    values.append(auroc(part.cells["Cae"]))
    heights = [-y for _, y in points]  # in the picture, up is less
    slopes = np.diff(heights) / np.diff(values)
    assert slopes[0] == pytest.approx(slopes[1], rel=0.05)


def test_a_model_of_one_size_has_no_curve(rows: list[Row], grid: Grid, out: Path) -> None:
    for cells in ([], [replace(cell, training_size=40) for cell in grid.curve_cells]):
        fewer = replace(grid, curve_cells=cells)
        part = parts_of(rows, fewer)[0]
        assert draw_training_size(part, CellOutputs(fewer, out)) is None
