"""The grids of published tables, on few small phantoms in the layouts of their data sets and with small networks."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from anomalib_xray.cli import main
from anomalib_xray.experiments.cell_task import run_cell
from anomalib_xray.experiments.grid import SHORTCUTS, Cell, Grid, read_grid
from anomalib_xray.experiments.run_grid import folder_of, settings_of
from anomalib_xray.jobs import perform, read_result, write_task
from anomalib_xray.phantom.dataset import write_phantoms
from anomalib_xray.report.page import write_report
from anomalib_xray.report.results import CellOutputs, as_frame, read_rows
from anomalib_xray.report.rows import Row
from anomalib_xray.report.tables import by_preparation, write_tables

pytestmark = pytest.mark.slow

GRIDS = Path(__file__).parents[2] / "configs" / "benchmark"

# Rows of Table 1, arXiv 2001.10883, and those of the public code's summary.
ROWS = {
    "CAE": ["mse", "mse_top_k"],
    "VAE": ["kld", "smooth_l1", "l1_kld", "smooth_l1_top_k", "mse", "mse_kld", "mse_top_k"],
    "DCGAN": ["discriminator"],
    "BiGAN": ["mse", "mse_top_k", "discriminator"],
    "alpha-GAN": ["code_discriminator", "mse", "mse_top_k", "discriminator", "discriminators_mean_probability"],
    "BAE": ["mse", "mse_top_k"],
}
COLUMNS = ["raw", "raw, equalised", "crop", "crop, equalised", "full", "full, equalised"]

SMALL = {
    "image_size": 64,
    "width": 8,
    "discriminator_width": 8,
    "latent_channels": 16,
    "latent_size": 16,
    "hidden": 16,
    "top_k": 20,
    "levels": 3,
    "search_steps": 2,
    "validation_search_steps": 1,
    "critic_steps": 1,
}


def small(cell: Cell, root: Path, **data: Any) -> Cell:
    """The same cell with a small network, few pictures and one epoch."""
    settings = {**cell.data_config["init_args"], "root": str(root), "num_workers": 0, "train_batch_size": 8, **data}
    model = cell.model_config
    if cell.model != SHORTCUTS:
        known = {key: value for key, value in SMALL.items() if key in model["init_args"]}
        model = {**model, "init_args": {**model["init_args"], **known}}
    return replace(
        cell,
        model_config=model,
        data_config={**cell.data_config, "init_args": settings},
        trainer={"max_epochs": 1, "accelerator": "cpu", "limit_train_batches": 1, "limit_val_batches": 1},
        image_size=cell.image_size and 64,
    )


def with_weights(cell: Cell, file: Path) -> Cell:
    """The same cell with a file in place of the weights that a user has to get."""
    settings = cell.model_config.get("init_args", {})
    if "weights" in settings:
        cell = replace(cell, model_config={**cell.model_config, "init_args": {**settings, "weights": str(file)}})
    return replace(cell, weights=cell.weights and str(file))


def run(grid: Grid, cells: Sequence[Cell], out: Path) -> list[Row]:
    """Runs cells and evaluates them."""
    grid = replace(grid, cells=list(cells))
    for cell in cells:
        # One process for all: starting one for each cell would take most of the time.
        perform(write_task(folder_of(out, cell), run_cell, settings_of(cell, grid, out)))
        result = read_result(folder_of(out, cell))
        assert result is not None
        assert result["status"] == "done", (cell.key, result["reason"])
    rows = read_rows(CellOutputs(grid, out))
    write_tables(rows, grid, out)
    write_report(rows, CellOutputs(grid, out), out)
    return rows


@pytest.fixture(scope="module")
def mura(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(
        tmp_path_factory.mktemp("mura") / "MURA-v1.1", patients=14, prepared=False, progress=False, valid_share=0.1
    )


def test_every_published_row_and_column_is_there(mura: Path, tmp_path: Path) -> None:
    grid = read_grid(GRIDS / "paper_table1.yaml")
    assert sorted({cell.seed for cell in grid.cells}) == [0, 42, 4242, 424242, 42424242]
    # All models on the last column; the others differ in their pictures only.
    cells = [
        small(cell, mura)
        for cell in grid.cells
        if cell.seed == 0
        or (cell.seed == 42 and (cell.model == "BAE" or (cell.preparation == "full" and cell.equalize)))
    ]
    rows = run(grid, cells, tmp_path)
    table = by_preparation(as_frame([row for row in rows if row.model != SHORTCUTS], grid))
    assert list(table.columns) == COLUMNS
    expected = [(model, score) for model, scores in ROWS.items() for score in scores]
    assert sorted(table.index) == sorted(expected)
    assert sum(len(scores) for model, scores in ROWS.items() if model != "BAE") == 18
    assert table[COLUMNS[-1]].map(lambda text: 0 <= float(text) <= 1).all()
    assert table.loc["BAE"].map(lambda text: 0 <= float(text) <= 1).all(axis=None)
    assert "## mura_hand, AUROC by preparation" in (tmp_path / "results.md").read_text()
    assert "discriminators_mean_probability" in (tmp_path / "report.html").read_text()


def test_every_part_of_mura_and_every_model_run(mura: Path, tmp_path: Path) -> None:
    import timm
    import torch

    weights = tmp_path / "weights.pth"
    torch.save(timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict(), weights)
    grid = read_grid(GRIDS / "mura_all_parts.yaml")
    cells = []
    for cell in grid.cells:
        root = tmp_path / cell.data / "MURA-v1.1"
        if not root.exists():
            shutil.copytree(mura, root, ignore=shutil.ignore_patterns("ground_truth", "*.csv"))
            for folder in list(root.glob("*/XR_HAND")):
                folder.rename(folder.with_name(f"XR_{cell.data.upper()}"))
        # All models on one part; the others differ in their pictures only.
        if cell.seed == 0 or (cell.seed == 42 and (cell.data == "shoulder" or cell.model == "Cae")):
            cells.append(with_weights(small(cell, root), weights))
    rows = run(grid, cells, tmp_path / "out")
    done = {(row.data, row.model) for row in rows if row.estimates and row.model != SHORTCUTS}
    models = ["Cae", "AlphaGan", "AnoGan", "FAnoGan", "FeatureAe", "Padim", "Patchcore", "Dfm", "Fastflow"]
    assert done == {("shoulder", model) for model in models} | {(part, "Cae") for part in grid.preparations}
    assert len(grid.preparations) == 7


@pytest.fixture
def chests(tmp_path: Path) -> dict[str, Path]:
    """26 normal chests and 17 abnormal ones in the layout of each data set."""
    random = np.random.default_rng(0)
    names = [f"image{number:02}" for number in range(43)]
    kinds = ["No finding" if number < 26 else "Nodule/Mass" for number in range(43)]
    roots = {"rsna": tmp_path / "rsna-pneumonia", "vinbigdata": tmp_path / "vinbigdata"}
    for root in roots.values():
        (root / "train_png_512").mkdir(parents=True)
        for name in names:
            picture = random.integers(20, 235, (64, 64), dtype=np.uint8)
            cv2.imwrite(str(root / "train_png_512" / f"{name}.png"), picture)
    classes = ["Normal" if kind == "No finding" else "Lung Opacity" for kind in kinds]
    rsna = pd.DataFrame({"patientId": names, "class": classes})
    rsna.to_csv(roots["rsna"] / "stage_2_detailed_class_info.csv", index=False)
    findings = pd.DataFrame({"image_id": names, "class_name": kinds, "rad_id": "R1"})
    findings.to_csv(roots["vinbigdata"] / "train.csv", index=False)
    return roots


def test_dual_distributions_run_on_both_data_sets(chests: dict[str, Path], tmp_path: Path) -> None:
    grid = read_grid(GRIDS / "ddad_table1.yaml")
    sizes = {"train": 8, "val_normal": 4, "val_abnormal": 4, "test_normal": 6, "test_abnormal": 6}
    pool = {"size": 10, "anomaly_rate": 0.6, "reserve": 0.0, "seed": 42}
    cells = [
        small(cell, chests[cell.data], sizes=sizes, pool=pool, eval_batch_size=8)
        for cell in grid.cells
        if cell.seed in (0, 42)
    ]
    rows = [row for row in run(grid, cells, tmp_path / "out") if row.model != SHORTCUTS]
    assert [(row.data, row.model, row.score) for row in rows if row.estimates] == [
        (data, model, score)
        for data in ("rsna", "vinbigdata")
        for model in ("AE", "MemAE", "AE-U")
        for score in ("rec", "rec_ensemble", "intra", "inter")
    ]


@pytest.mark.parametrize(
    ("grid", "cells"),
    [("paper_table1", 147), ("mura_all_parts", 196), ("ddad_table1", 20), ("ddad_unlabelled", 38)],
)
def test_a_dry_run_counts_the_cells(grid: str, cells: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["benchmark", "--config", str(GRIDS / f"{grid}.yaml"), "--out", str(tmp_path), "--dry_run", "true"]) == 0
    )
    assert f"{cells} of {cells} cells to run; no cell is done yet." in capsys.readouterr().out
