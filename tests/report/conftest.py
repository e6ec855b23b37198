"""A made-up folder of a benchmark's results: what finished, what failed, and names that mean harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from anomalib_xray.evaluation.shortcuts import SHORTCUTS as NUMBERS
from anomalib_xray.evaluation.units import VALIDATION_SCORES
from anomalib_xray.experiments.grid import CHARACTERISTICS, SCORES, SHORTCUTS, Cell, Grid
from anomalib_xray.experiments.run_grid import folder_of
from anomalib_xray.jobs import RESULT
from anomalib_xray.report.results import CellOutputs, read_rows
from anomalib_xray.report.rows import Row

EVIL = "<script>alert(1)</script>"
DATA = {
    "hands": {"class_path": "anomalib_xray.data.Mura", "init_args": {"root": "datasets/MURA-v1.1"}},
    "chest": {"class_path": "anomalib_xray.data.ChestFolder", "init_args": {}},
}
STRENGTH = {"Cae": 2.0, "Padim": 1.0, "Wrong": -2.0, "Broken": 0.0, "Late": 0.0}
CLASSES = {"Cae": "anomalib_xray.models.Cae", "Padim": "anomalib.models.Padim"}
PARTS = (("hands", "raw", False), ("hands", "raw", True), ("chest", "full", False))
PATIENTS = 30

SPLITS = {
    split: {
        "pictures": 20 + place, "originals": 10, "patients": 5, "normal": 20, "abnormal": place,
        "characteristics": {"age": "median 40, 20 to 60"},
    }
    for place, split in enumerate(("test", "pool", "train", "val"))
}  # fmt: skip


def _cells() -> list[Cell]:
    cells = []
    for data, preparation, equalize in PARTS:
        if not equalize:
            cells.append(Cell(SHORTCUTS, data, preparation, False, 0, {}, DATA[data]))
        for seed in (1, 2):
            for model in STRENGTH:
                config = {"class_path": CLASSES.get(model, f"models.{model}"), "init_args": {"score": "mse"}}
                cells.append(Cell(model, data, preparation, equalize, seed, config, DATA[data], {"max_epochs": 3}))
    return cells


def make_grid(**changes: Any) -> Grid:
    """Three parts, five models with two seeds, one of them with two scores, one that also trains on fewer images."""
    cells = _cells()
    grid = Grid(
        title=f"A comparison {EVIL}",
        cells=cells,
        preparations={"raw": None, "full": Path("full.yaml")},
        baseline="Padim",
        level="image",
        scores={"Cae": ["mse", "l1"]},
        selection={model: "as published" if model == "Padim" else "label-free" for model in STRENGTH},
        curve_cells=[replace(cell, training_size=size) for size in (10, 20) for cell in cells if cell.model == "Cae"],
    )
    return replace(grid, **changes)


def score_table(cell: Cell, *, one_class: bool = False) -> pd.DataFrame:
    """Two images of each patient, every third patient abnormal."""
    random = np.random.default_rng(cell.seed + len(cell.data) + (cell.training_size or 100))
    label = np.repeat(np.arange(PATIENTS) % 3 == 0, 2).astype(int) * (not one_class)
    patient = np.repeat([f"{number:03}" for number in range(PATIENTS)], 2)
    names = [f"/data/{cell.data}/{EVIL}{number}.png" for number in range(2 * PATIENTS)]
    table = pd.DataFrame({"image_path": names, "source_path": names, "patient": patient, "study": "1", "label": label})
    if cell.model == SHORTCUTS:
        return table.assign(**{number: random.normal(size=len(table)) for number in NUMBERS})
    scores = STRENGTH[cell.model] * label * (cell.training_size or 40) / 40 + random.normal(size=len(table))
    return table.assign(
        pred_label=(scores > 1).astype(int), pred_score=scores, mse=scores, l1=scores + random.normal(size=len(table))
    )


def write_evidence(folder: Path, table: pd.DataFrame) -> None:
    """Writes scores for several k, and three cases with a map, one of them with a mask, one without its picture."""
    random = np.random.default_rng(7)
    columns = {f"k={k}": table["pred_score"] + random.normal(size=len(table)) for k in ("10", "200", "0.01", "1.0")}
    table[["image_path", "label"]].assign(**columns).to_csv(folder / "top_k.csv", index=False)
    cases = folder / "cases"
    cases.mkdir()
    rows = []
    for place, kind in enumerate(("most anomalous abnormal", "least anomalous normal", "most anomalous normal")):
        for name in ("image", "map", "mask"):
            depth = np.uint16 if name == "map" else np.uint8
            picture = random.integers(np.iinfo(depth).max, size=(32, 24)).astype(depth)
            if name == "mask":
                picture = cv2.rectangle(np.zeros((32, 24), np.uint8), (4, 4), (12, 12), 255, cv2.FILLED)
            if (name, place) != ("image", 2):
                cv2.imwrite(str(cases / f"{place}_{name}.png"), picture)
        row = {"kind": kind, "image": f"{place}_image.png", "map": f"{place}_map.png", "low": 0.0, "high": 0.5}
        rows.append({**row, "mask": f"{place}_mask.png" if not place else "", "label": 1, "score": 1.5 - place})
    pd.DataFrame(rows).assign(image_path=table["image_path"][: len(rows)]).to_csv(cases / "cases.csv", index=False)


def finish(out: Path, cell: Cell, *, evidence: bool = True, one_class: bool = False) -> None:
    """Writes what a cell leaves."""
    folder = folder_of(out, cell)
    folder.mkdir(parents=True)
    if cell.model == "Broken":
        failure = {"status": "failed", "reason": f"RuntimeError: {EVIL}", "peak_memory_gib": 0.5}
        (folder / RESULT).write_text(json.dumps(failure))
        return
    table = score_table(cell, one_class=one_class)
    table.to_csv(folder / SCORES, index=False)
    result: dict[str, Any] = {"status": "done", "images": len(table), "peak_memory_gib": 0.5}
    if cell.model != SHORTCUTS:
        result |= {"training_s": 10.0, "testing_s": 2.0, "parameters": 1000, "threads": 1, "machine": f"cpu {EVIL}"}
        result |= {
            "gflop": None if cell.model == "Wrong" else 0.5 + (cell.model == "Padim"),
            "versions": {"torch": "2"},
        }
        result |= {"training_images": cell.training_size or 40}
    if evidence and cell.model == "Cae":
        result["pixel"] = {"AUROC": 0.8 + cell.seed / 100, "AUPRO": 0.5, "Dice": 0.25, "hit": 0.125}
        score_table(replace(cell, seed=cell.seed + 50)).to_csv(folder / VALIDATION_SCORES, index=False)
        write_evidence(folder, table)
        result |= {"splits": SPLITS, "unit": "patients"}
        table[["image_path"]].assign(view=["frontal", "lateral"] * PATIENTS).to_csv(
            folder / CHARACTERISTICS, index=False
        )
    (folder / RESULT).write_text(json.dumps(result))


@pytest.fixture(scope="session")
def grid() -> Grid:
    return make_grid()


@pytest.fixture(scope="session")
def out(tmp_path_factory: pytest.TempPathFactory, grid: Grid) -> Path:
    """Everything but the cells of one model, which have not run."""
    folder = tmp_path_factory.mktemp("benchmark")
    for cell in grid.all_cells:
        if cell.model != "Late":
            finish(folder, cell)
    return folder


@pytest.fixture(scope="session")
def rows(grid: Grid, out: Path) -> list[Row]:
    return read_rows(CellOutputs(grid, out))


@pytest.fixture
def finish_cell() -> Callable[..., None]:
    return finish
