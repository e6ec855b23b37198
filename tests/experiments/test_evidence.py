from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from anomalib_xray.evaluation.localisation import aupro, froc, hits_box, lesions_of
from anomalib_xray.experiments.evidence import KINDS, Evidence, means_by_k, pixel_metrics
from anomalib_xray.experiments.grid import CASES, MARKS, TOP_K
from anomalib_xray.jobs import RESULT


def batch(start: int, count: int, **changes: Any) -> SimpleNamespace:
    """Pictures with a black frame, whose scores are their numbers and whose odd ones are abnormal."""
    random = torch.Generator().manual_seed(start)
    image = torch.zeros(count, 3, 8, 8)
    image[:, :, 2:6, 2:6] = torch.rand(count, 1, 4, 4, generator=random) / 2 + 0.5
    numbers = torch.arange(start, start + count)
    mask = torch.zeros(count, 8, 8, dtype=torch.bool)
    mask[numbers % 2 == 1, 3:5, 3:5] = True
    content = {
        "image": image,
        "anomaly_map": torch.rand(count, 1, 8, 8, generator=random) + mask[:, None] * 0.5,
        "gt_mask": mask,
        "gt_label": numbers % 2 == 1,
        "pred_score": numbers.float(),
        "image_path": [f"{number}.png" for number in numbers.tolist()],
    }
    return SimpleNamespace(**{**content, **changes})


def collect(*batches: SimpleNamespace) -> Evidence:
    evidence = Evidence()
    for number, one in enumerate(batches):
        evidence.on_test_batch_end(None, None, None, one, number)  # type: ignore[arg-type]  # not looked at
    return evidence


def test_means_of_the_largest_values() -> None:
    values = np.random.default_rng(0).normal(size=500).astype(np.float32)
    means = means_by_k(values)
    descending = sorted(values.tolist(), reverse=True)
    for name, count in {"k=10": 10, "k=200": 200, "k=1000": 500, "k=0.01": 5, "k=0.001": 1, "k=1.0": 500}.items():
        assert means[name] == pytest.approx(np.mean(descending[:count]), abs=1e-6)


def test_pixel_metrics_against_their_definitions() -> None:
    random = np.random.default_rng(0)
    truth = random.random(400) < 0.2
    values = (random.normal(size=400) + truth).astype(np.float32)
    metrics = pixel_metrics(values, truth)
    dice = [2 * (truth & (values >= t)).sum() / (truth.sum() + (values >= t).sum()) for t in values]
    pairs = values[truth][:, None] > values[~truth][None]
    assert metrics["Dice"] == pytest.approx(max(dice))
    assert metrics["AUROC"] == pytest.approx(pairs.mean())


def test_what_a_test_leaves_behind(tmp_path: Path) -> None:
    batches = batch(0, 7), batch(7, 6)
    pixel = collect(*batches).write(tmp_path)
    maps, masks, inside = (
        np.concatenate([part(one).numpy() for one in batches])
        for part in (lambda one: one.anomaly_map[:, 0], lambda one: one.gt_mask, lambda one: one.image[:, 0] > 0)
    )
    assert pixel["AUROC"] == pytest.approx(roc_auc_score(masks[inside], maps[inside]))
    regions = [heat[3:5, 3:5].ravel() for heat, mask in zip(maps, masks, strict=True) if mask.any()]
    assert pixel["AUPRO"] == pytest.approx(aupro(regions, maps[inside & ~masks]))
    marks = pd.read_csv(tmp_path / MARKS)
    lesions, false = marks[marks["side"].notna()], marks[marks["side"].isna()]
    assert lesions["image_path"].tolist() == [f"{number}.png" for number in range(1, 13, 2)]
    assert lesions["side"].eq(2 / 8).all()
    for (_, row), number in zip(lesions.iterrows(), range(1, 13, 2), strict=True):
        (lesion,) = lesions_of(maps[number], masks[number], inside[number])
        assert row["heat"] == pytest.approx(lesion.heat)
    assert set(false["image_path"]) == {f"{number}.png" for number in range(0, 13, 2)}
    assert false["heat"].max() == pytest.approx(maps[::2][inside[::2]].max())
    hits = [hits_box(maps[number], masks[number], inside[number])[0] for number in range(1, 13, 2)]
    found = froc(lesions["heat"], false["heat"], 7)
    assert [pixel[name] for name in ("hit", "found_at_1", "FROC")] == pytest.approx(
        [np.mean(hits), found[1], np.mean(list(found.values()))]
    )

    table = pd.read_csv(tmp_path / TOP_K)
    assert table["image_path"].tolist() == [f"{number}.png" for number in range(13)]
    assert table["k=1.0"][3] == pytest.approx(maps[3][inside[3]].mean())
    for number, row in table.iterrows():
        assert (row["hit"], row["box_share"]) == hits_box(maps[number], masks[number], inside[number])

    cases = pd.read_csv(tmp_path / CASES / "cases.csv", keep_default_na=False)
    names = {kind: cases.loc[cases["kind"] == kind, "image_path"].tolist() for kind in KINDS}
    assert names == {
        "most anomalous abnormal": ["11.png", "9.png", "7.png"],
        "least anomalous abnormal": ["1.png", "3.png", "5.png"],
        "most anomalous normal": ["12.png", "10.png", "8.png"],
        "least anomalous normal": ["0.png", "2.png", "4.png"],
    }
    row = cases[cases["image_path"] == "11.png"].iloc[0]
    stored = cv2.imread(str(tmp_path / CASES / row["map"]), cv2.IMREAD_UNCHANGED)
    restored = stored / 65535 * (float(row["high"]) - float(row["low"])) + float(row["low"])
    np.testing.assert_allclose(restored, maps[11], atol=1e-4)
    drawn = cv2.imread(str(tmp_path / CASES / row["mask"]), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(drawn > 0, masks[11])
    assert cases.loc[cases["label"] == 0, "mask"].eq("").all()


def test_models_without_maps_leave_their_pictures(tmp_path: Path) -> None:
    assert collect(batch(0, 4, anomaly_map=None, gt_mask=None)).write(tmp_path) == {}
    assert not (tmp_path / TOP_K).exists()
    assert not (tmp_path / MARKS).exists()
    cases = pd.read_csv(tmp_path / CASES / "cases.csv", keep_default_na=False)
    assert cases["map"].eq("").all()
    assert len(cases) == 8


@pytest.mark.parametrize("of_a_cell", [True, False])
def test_a_run_of_the_stock_command_is_left_as_a_cell(tmp_path: Path, of_a_cell: bool) -> None:
    cell, run = tmp_path / "cell", tmp_path / "run"
    evidence = Evidence(cell if of_a_cell else None)
    trainer = SimpleNamespace(default_root_dir=str(run), is_global_zero=True)
    for start in (50, 0):  # of two tests the last one counts
        evidence.on_test_start()
        evidence.on_test_batch_end(None, None, None, batch(start, 6), 0)
        evidence.on_test_end(trainer, torch.nn.Linear(3, 2))  # type: ignore[arg-type]  # no more is looked at
    folder, other = (cell, run) if of_a_cell else (run, cell)
    assert not other.exists()
    assert len(pd.read_csv(folder / TOP_K)) == 6
    assert set(evidence.facts["pixel"]) >= {"AUROC", "hit"}
    assert (folder / RESULT).is_file() != of_a_cell
    if not of_a_cell:
        result = json.loads((folder / RESULT).read_text())
        assert (result["status"], result["images"], result["parameters"]) == ("done", 6, 8)
        assert result["pixel"] == evidence.facts["pixel"]
