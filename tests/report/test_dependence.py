from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.grid import Cell, Grid
from anomalib_xray.experiments.rows import Row
from anomalib_xray.experiments.run_grid import folder_of
from anomalib_xray.report.dependence import aurocs_by_k, draw_top_k, draw_training_size
from anomalib_xray.report.material import Material, Part, parts_of


@pytest.fixture(scope="module")
def material(grid: Grid, out: Path) -> Material:
    return Material(grid, out)


@pytest.fixture(scope="module")
def part(rows: list[Row], grid: Grid) -> Part:
    return parts_of(rows, grid)[0]


def test_k_is_judged_by_the_unit_of_the_tables(grid: Grid, out: Path, part: Part) -> None:
    cell = part.cells["Cae"][0]
    table = pd.read_csv(folder_of(out, cell) / "top_k.csv")
    images = aurocs_by_k(cell, Material(grid, out))
    assert images == {
        name: pytest.approx(roc_auc_score(table["label"], table[name])) for name in ("k=10", "k=200", "k=0.01", "k=1.0")
    }
    patients = pd.read_csv(folder_of(out, cell) / "scores.csv", dtype=str)["patient"]
    means = table.groupby(patients).mean(numeric_only=True)
    by_patient = aurocs_by_k(cell, Material(replace(grid, level="patient"), out))
    assert by_patient["k=200"] == pytest.approx(roc_auc_score(means["label"], means["k=200"]))
    assert by_patient["k=200"] != pytest.approx(images["k=200"])


def test_numbers_and_shares_have_a_chart_each(part: Part, material: Material) -> None:
    pixels, shares = draw_top_k(part, material)
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
        aurocs_by_k(cell, Material(grid, tmp_path))


def _points(svg: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<circle class="dot s1" cx="([\d.]+)" cy="([\d.]+)"', svg)]


def test_training_sizes_end_with_all_images(part: Part, material: Material, out: Path) -> None:
    figure = draw_training_size(part, material)
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
        assert draw_training_size(part, Material(fewer, out)) is None
