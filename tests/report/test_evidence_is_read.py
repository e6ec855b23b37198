"""The report reads the evidence that a cell's test writes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from anomalib_xray.experiments.evidence import Evidence
from anomalib_xray.experiments.grid import Cell, Grid
from anomalib_xray.experiments.run_grid import folder_of
from anomalib_xray.report.cases import KINDS, read_cases
from anomalib_xray.report.charts import aurocs_by_k
from anomalib_xray.report.results import CellOutputs

CELL = Cell("Cae", "hands", "raw", False, 1)
GRID = Grid("A comparison", [CELL], {"raw": None}, None, "image", {}, {"Cae": "label-free"})


def make_batch() -> SimpleNamespace:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(8, 3, 24, 24, generator=generator)
    image[..., :4] = 0
    label = torch.arange(8) % 2
    mask = torch.zeros(8, 24, 24, dtype=torch.bool)
    mask[label == 1, 8:12, 8:12] = True
    maps = torch.rand(8, 24, 24, generator=generator) + mask.float()
    paths = [f"/data/{place}.png" for place in range(8)]
    batch: dict[str, Any] = {"image": image, "gt_label": label, "gt_mask": mask, "anomaly_map": maps}
    return SimpleNamespace(**batch, pred_score=maps.flatten(1).mean(1), image_path=paths)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    batch, evidence = make_batch(), Evidence()
    evidence.on_test_batch_end(None, None, None, batch, 0)  # type: ignore[arg-type]  # takes no notice of them
    folder = folder_of(tmp_path, CELL)
    folder.mkdir(parents=True)
    evidence.write(folder)
    (folder / "result.json").write_text(json.dumps({"status": "done"}))
    table = pd.DataFrame({"image_path": batch.image_path, "label": batch.gt_label, "pred_score": batch.pred_score})
    table.assign(source_path="", patient=table.index, study="1").to_csv(folder / "scores.csv", index=False)
    return folder


def test_cases_have_pictures_maps_and_masks(folder: Path) -> None:
    cases = read_cases(folder)
    assert {case.kind for case in cases} == set(KINDS)
    assert all(case.uri and case.has_map for case in cases)
    assert {case.kind for case in cases if case.has_mask} == {kind for kind in KINDS if kind.endswith(" abnormal")}
    scores = [case.score for case in cases if case.kind == "most anomalous abnormal"]
    assert scores == sorted(scores, reverse=True)


def test_scores_by_k_have_an_auroc(folder: Path, tmp_path: Path) -> None:
    found = aurocs_by_k(CELL, CellOutputs(GRID, tmp_path))
    table = pd.read_csv(folder / "top_k.csv")
    assert found["k=10"] == roc_auc_score(table["label"], table["k=10"]) == 1
    assert {name.removeprefix("k=").isdigit() for name in found} == {True, False}
