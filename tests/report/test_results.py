"""The tables of a benchmark, from made-up score tables."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.shortcuts import SHORTCUTS as NUMBERS
from anomalib_xray.experiments.grid import SCORES, SHORTCUTS, Cell, Grid
from anomalib_xray.experiments.run_grid import estimate_seconds, folder_of, is_open
from anomalib_xray.jobs import RESULT
from anomalib_xray.report.results import CellOutputs, as_frame, read_rows, read_units
from anomalib_xray.report.tables import by_preparation, write_tables

MODELS = {"Good": 2.0, "Chance": 0.0, "Wrong": -2.0}
CELLS = [
    Cell(SHORTCUTS, "hands", "raw", False, 0),
    *(Cell(model, "hands", "raw", False, seed) for seed in (1, 2) for model in MODELS),
]
GRID = Grid("A comparison", CELLS, {"raw": None}, "Chance", "patient", {}, dict.fromkeys(MODELS, "label-free"))


def score_table(cell: Cell) -> pd.DataFrame:
    """Two images of each of 40 patients, in an order of the cell's own."""
    random = np.random.default_rng(cell.seed)
    label = np.repeat(np.arange(40) % 2, 2)
    patient = np.repeat([f"p{number:02}" for number in range(40)], 2)
    table = pd.DataFrame({"image_path": [f"{number}.png" for number in range(80)], "patient": patient, "label": label})
    table = table.assign(source_path=table["image_path"], study="study", pred_label="")
    if cell.model == SHORTCUTS:
        return table.assign(**{number: random.normal(size=80) for number in NUMBERS})
    table["pred_score"] = MODELS[cell.model] * label + random.normal(size=80)
    return table.sample(frac=1, random_state=cell.seed)


def finish(out: Path, cell: Cell, **result: object) -> None:
    folder = folder_of(out, cell)
    folder.mkdir(parents=True)
    score_table(cell).to_csv(folder / SCORES, index=False)
    times = {} if cell.model == SHORTCUTS else {"training_s": 10.0 * cell.seed, "testing_s": 4.0, "images": 80}
    (folder / RESULT).write_text(json.dumps({"status": "done", **times, **result}))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    for cell in CELLS:
        finish(tmp_path, cell)
    return tmp_path


def by_patient(model: str, seed: int) -> pd.DataFrame:
    table = score_table(Cell(model, "hands", "raw", False, seed))
    return table.groupby("patient").agg({"label": "max", "pred_score": "mean"})


def test_figures_are_means_over_seeds_of_the_metrics_of_patients(out: Path) -> None:
    rows = {row.model: row for row in read_rows(CellOutputs(GRID, out))}
    for model in MODELS:
        units = [by_patient(model, seed) for seed in (1, 2)]
        for name, metric in (("AUROC", roc_auc_score), ("AP", average_precision_score)):
            expected = [metric(unit["label"], unit["pred_score"]) for unit in units]
            assert list(rows[model].seeds[name].values()) == pytest.approx(expected)
            assert rows[model].estimates[name].value == pytest.approx(np.mean(expected))
        assert rows[model].estimates["AUROC"].low <= np.mean(expected) or model != "Good"
    assert rows["Good"].costs["training_s"] == 15
    assert rows["Good"].prevalence == 0.5


def test_models_are_compared_with_the_baseline_in_pairs(out: Path) -> None:
    rows = {row.model: row for row in read_rows(CellOutputs(GRID, out))}
    assert rows["Chance"].against == {}
    difference = rows["Good"].against["AUROC"]
    assert difference.value == pytest.approx(
        rows["Good"].estimates["AUROC"].value - rows["Chance"].estimates["AUROC"].value
    )
    assert difference.low > 0
    assert rows["Wrong"].against["AUROC"].high < 0


def test_what_is_wrong_is_noted(out: Path) -> None:
    rows = {row.model: row for row in read_rows(CellOutputs(GRID, out)) if row.model in MODELS}
    assert rows["Good"].notes == []
    assert rows["Wrong"].notes == ["below chance"]
    frame = as_frame(list(rows.values()), GRID).set_index("model")
    assert frame.loc["Good", "notes"] == "clearly better than Chance"
    assert frame.loc["Wrong", "notes"] == "below chance; clearly worse than Chance"


def test_training_with_labels_is_noted(tmp_path: Path) -> None:
    for cell in CELLS:
        finish(tmp_path, cell, **({"labelled_images": 12} if cell.model == "Good" else {}))
    frame = as_frame(read_rows(CellOutputs(GRID, tmp_path)), GRID).set_index("model")
    assert "a category of its own: trained with 12 labelled abnormal images" in frame.loc["Good", "notes"]
    assert "labelled" not in frame.loc["Chance", "notes"]


def test_shortcuts_are_rows_of_their_own(out: Path) -> None:
    rows = [row for row in read_rows(CellOutputs(GRID, out)) if row.model == SHORTCUTS]
    assert [row.score for row in rows] == list(NUMBERS)
    assert all(row.against == {} for row in rows)


def test_failed_and_open_cells_are_rows_with_their_reason(tmp_path: Path) -> None:
    for cell in CELLS[:3]:
        finish(tmp_path, cell)
    folder = folder_of(tmp_path, CELLS[3])
    folder.mkdir()
    (folder / RESULT).write_text(json.dumps({"status": "failed", "reason": "out of memory"}))
    frame = as_frame(read_rows(CellOutputs(GRID, tmp_path)), GRID).set_index("model")
    assert frame.loc["Wrong", "notes"] == "seed 1 failed: out of memory"
    assert frame.loc["Good", "seeds"] == 1
    assert np.isnan(frame.loc["Good", "AUROC_std"])
    assert is_open(tmp_path, CELLS[4], retry=False)
    assert not is_open(tmp_path, CELLS[3], retry=False)
    assert is_open(tmp_path, CELLS[3], retry=True)
    assert not is_open(tmp_path, CELLS[2], retry=True)
    # Two cells that took 14 seconds, and as much for those of a model that no cell is known of.
    assert estimate_seconds(GRID, tmp_path, CELLS[4:]) == pytest.approx(3 * 14)


def test_a_score_that_is_not_there_is_named(out: Path) -> None:
    with pytest.raises(XrayError, match=r"has no score l1; it has pred_score\.$"):
        read_rows(CellOutputs(replace(GRID, scores={"Good": ["l1"]}), out))
    # Whatever comes before the scores: shortcuts' tables have neither decision nor chosen score.
    for columns in (["image_path", "label"], ["study", "image_path", "patient", "label", "source_path"]):
        path = out / f"{len(columns)}.csv"
        pd.DataFrame([{**dict.fromkeys(columns, "0"), "mse": 0.5, "kld": 0.5}]).to_csv(path, index=False)
        with pytest.raises(XrayError, match=r"has no score l1; it has mse, kld\.$"):
            read_units(path, "l1", "image")


def test_tables_are_written_in_three_forms(out: Path) -> None:
    rows = read_rows(CellOutputs(GRID, out))
    files = write_tables(rows, GRID, out)
    assert [file.name for file in files] == ["results.csv", "results.md", "results.tex"]
    markdown = (out / "results.md").read_text()
    assert "Research use only" in markdown
    assert "## hands, raw, 50.0% abnormal" in markdown
    (good,) = [line for line in markdown.splitlines() if line.startswith("| Good |")]
    estimate = next(row for row in rows if row.model == "Good").estimates["AUROC"]
    assert f"{estimate.value:.3f} ±" in good
    assert f"[{estimate.low:.3f}, {estimate.high:.3f}]" in good
    assert "nan" not in markdown
    latex = (out / "results.tex").read_text()
    assert latex.count(r"\hline") == 3
    assert r"mean\_grey" in latex
    assert pd.read_csv(out / "results.csv").model.tolist() == [row.model for row in rows]


def test_pixel_metrics_are_means_over_seeds_where_all_have_them(tmp_path: Path) -> None:
    for cell in CELLS:
        pixel = {} if cell.model == "Chance" else {"AUROC": 0.6 + 0.1 * cell.seed, "AUPRO": 0.5, "Dice": 0.2}
        finish(tmp_path, cell, pixel={} if (cell.model, cell.seed) == ("Wrong", 2) else pixel)
    rows = {row.model: row for row in read_rows(CellOutputs(GRID, tmp_path))}
    assert rows["Good"].pixel["AUROC"] == pytest.approx((0.75, np.std([0.7, 0.8], ddof=1)))
    assert rows["Chance"].pixel == rows["Wrong"].pixel == {}
    write_tables(list(rows.values()), GRID, tmp_path)
    markdown = (tmp_path / "results.md").read_text()
    assert "| 0.750 / 0.500 / 0.200 |" in markdown
    assert "nan" not in markdown


def test_several_scores_of_a_model_are_rows_from_the_same_cells(out: Path) -> None:
    for cell in CELLS:
        path = folder_of(out, cell) / SCORES
        if cell.model == "Good":
            pd.read_csv(path).assign(twice=lambda table: 2 * table["pred_score"]).to_csv(path, index=False)
    rows = [
        row
        for row in read_rows(CellOutputs(replace(GRID, scores={"Good": ["pred_score", "twice"]}), out))
        if row.model in ("Good", "Chance")
    ]
    assert [(row.model, row.score) for row in rows] == [
        ("Good", "pred_score"),
        ("Good", "twice"),
        ("Chance", "pred_score"),
    ]
    assert rows[0].estimates == rows[1].estimates
    assert rows[0].against == rows[1].against


def test_preparations_stand_side_by_side() -> None:
    frame = pd.DataFrame(
        {
            "model": ["Cae", "Vae", "Cae", "Vae"],
            "score": "mse",
            "preparation": ["raw", "raw", "full", "full"],
            "equalize": [False, False, True, True],
            "AUROC": [0.5, np.nan, 0.75, 0.6],
            "AUROC_std": [0.01, np.nan, np.nan, 0.1],
        }
    )
    table = by_preparation(frame)
    assert list(table.columns) == ["raw", "full, equalised"]
    assert table.to_numpy().tolist() == [["0.500 ± 0.010", "0.750"], ["–", "0.600 ± 0.100"]]
