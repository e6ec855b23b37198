"""The grid of the published table, on few small phantoms in MURA's layout and with small networks."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest

from anomalib_xray.cli import main
from anomalib_xray.evaluation import cell as one_cell
from anomalib_xray.evaluation.cell import CELL, RESULT
from anomalib_xray.evaluation.plan import SHORTCUTS, Cell, read_grid
from anomalib_xray.evaluation.runner import folder_of, read_result, with_prepared
from anomalib_xray.evaluation.tables import as_frame, read_rows
from anomalib_xray.evaluation.writers import by_preparation, write_tables
from anomalib_xray.phantom.dataset import write_phantoms

pytestmark = pytest.mark.slow

GRID = Path(__file__).parents[2] / "configs" / "benchmark" / "paper_table1.yaml"

# Rows of Table 1, arXiv 2001.10883, and those of the public code's summary.
ROWS = {
    "CAE": ["mse", "mse_top_k"],
    "VAE": ["kld", "l1", "l1_kld", "l1_top_k", "mse", "mse_kld", "mse_top_k"],
    "DCGAN": ["discriminator"],
    "BiGAN": ["mse", "mse_top_k", "discriminator"],
    "alpha-GAN": ["code_discriminator", "mse", "mse_top_k", "discriminator", "discriminators_mean"],
    "BAE": ["mse", "mse_top_k"],
}
COLUMNS = ["raw", "raw, equalised", "crop", "crop, equalised", "full", "full, equalised"]

SMALL = {
    "image_size": 64,
    "width": 8,
    "discriminator_width": 8,
    "latent_channels": 16,
    "latent_size": 16,
    "top_k": 20,
    "levels": 3,
}


def small(cell: Cell, root: Path) -> Cell:
    """The same cell with a small network, few pictures and one epoch."""
    data = {**cell.data_config["init_args"], "root": str(root), "num_workers": 0, "train_batch_size": 8}
    model = cell.model_config
    if cell.model != SHORTCUTS:
        known = {key: value for key, value in SMALL.items() if key in model["init_args"]}
        model = {**model, "init_args": {**model["init_args"], **known}}
    return replace(
        cell,
        model_config=model,
        data_config={**cell.data_config, "init_args": data},
        trainer={"max_epochs": 1, "accelerator": "cpu", "limit_train_batches": 1},
    )


def test_every_published_row_and_column_is_there(tmp_path: Path) -> None:
    root, out = tmp_path / "MURA-v1.1", tmp_path / "out"
    write_phantoms(root, patients=24, prepared=False, progress=False)
    grid = read_grid(GRID)
    assert sorted({cell.seed for cell in grid.cells}) == [0, 42, 4242, 424242, 42424242]
    cells = [small(cell, root) for cell in grid.cells if cell.seed in (0, 42)]
    grid = replace(grid, cells=cells)
    for cell in cells:
        folder = folder_of(out, cell)
        folder.mkdir(parents=True)
        (folder / CELL).write_text(json.dumps(asdict(with_prepared(cell, grid, out))))
        # One process for all: starting one for each cell would take most of the time.
        one_cell.main(folder)
        assert (folder / RESULT).is_file()
        result = read_result(out, cell)
        assert result is not None
        assert result["status"] == "done", result["reason"]

    rows = read_rows(grid, out)
    table = by_preparation(as_frame([row for row in rows if row.model != SHORTCUTS], grid))
    assert list(table.columns) == COLUMNS
    assert list(table.index) == [(model, score) for model, scores in ROWS.items() for score in scores]
    assert sum(len(scores) for model, scores in ROWS.items() if model != "BAE") == 18
    assert table.map(lambda text: 0 <= float(text) <= 1).all(axis=None)
    write_tables(rows, grid, out)
    assert "## mura_hand, AUROC by preparation" in (out / "results.md").read_text()
    assert len(pd.read_csv(out / "results.csv")) == 6 * (20 + 7)


def test_a_dry_run_counts_the_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--config", str(GRID), "--out", str(tmp_path), "--dry_run", "true"]) == 0
    assert "147 of 147 cells to run; no cell is done yet." in capsys.readouterr().out
