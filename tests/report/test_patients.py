"""Tables for reviewers: decisions, percentiles, the cross-check, who is in it, groups and lesions by size."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomalib_xray.experiments.grid import CHARACTERISTICS, MARKS, SCORES, Cell, Grid
from anomalib_xray.jobs import RESULT
from anomalib_xray.report.decisions import cross_check, decision_table, percentiles_of
from anomalib_xray.report.page import checklist_of, write_report
from anomalib_xray.report.parts import Part, parts_of
from anomalib_xray.report.patients import SMALLEST, lesion_table, patients_table, subgroup_tables
from anomalib_xray.report.results import CellOutputs, read_rows

from .conftest import PATIENTS, SPLITS, finish


@pytest.fixture(scope="module")
def outputs(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> CellOutputs:
    """Two models with two seeds on one part, with decisions, groups and lesions."""
    tmp_path = tmp_path_factory.mktemp("reviewed")
    cells = [cell for cell in grid.cells if cell.data == "chest" and cell.model in ("Cae", "Padim")]
    for cell in cells:
        finish(tmp_path, cell)
        folder = tmp_path / "cells" / cell.key
        scores = pd.read_csv(folder / SCORES, dtype={"patient": str})
        scores["pred_label"] = (scores["pred_score"] > 1).astype(int)
        scores.to_csv(folder / SCORES, index=False)
        views = np.where(np.arange(len(scores)) % 2 == 0, "frontal", "lateral")
        groups = pd.DataFrame({"image_path": scores["image_path"], "view": views})
        groups.assign(side="", age=scores["patient"].astype(int)).to_csv(folder / CHARACTERISTICS, index=False)
        abnormal = scores[scores["label"] == 1]
        lesions = pd.DataFrame({"image_path": abnormal["image_path"], "label": 1, "heat": np.arange(len(abnormal))})
        lesions["side"] = np.arange(len(abnormal)) % 2 * 0.1 + 0.05
        normal = scores[scores["label"] == 0]
        marks = pd.DataFrame({"image_path": normal["image_path"], "label": 0, "heat": 8.5, "side": None})
        pd.concat([marks, marks, lesions]).to_csv(folder / MARKS, index=False)
        result = json.loads((folder / RESULT).read_text())
        (folder / RESULT).write_text(json.dumps({**result, "splits": SPLITS, "unit": "groups"}))
    return CellOutputs(replace(grid, cells=cells, curve_cells=[]), tmp_path)


@pytest.fixture(scope="module")
def part(outputs: CellOutputs) -> Part:
    (part,) = parts_of(read_rows(outputs), outputs.grid)
    return part


def tables(outputs: CellOutputs, model: str) -> list[pd.DataFrame]:
    cells: list[Cell] = [cell for cell in outputs.grid.cells if cell.model == model]
    return [pd.read_csv(outputs.folder(cell) / SCORES) for cell in cells]


def test_decisions_are_counted(outputs: CellOutputs, part: Part) -> None:
    table = decision_table(part, outputs.grid.selection)
    assert table is not None
    row = next(row for row in table.rows if row[0].text == "Cae")
    runs = tables(outputs, "Cae")
    of = [
        (run["pred_label"][run["label"] == 1].mean(), 1 - run["pred_label"][run["label"] == 0].mean()) for run in runs
    ]
    assert (row[2].order, row[3].order) == pytest.approx(tuple(np.mean(of, axis=0)))
    assert row[4].order == pytest.approx(np.mean([run["label"][run["pred_label"] == 1].mean() for run in runs]))
    assert str(row[6].text).startswith(f"{np.mean([run['pred_label'][run['label'] == 1].sum() for run in runs]):.3g} /")
    estimate = next(row for row in part.models if row.model == "Cae").decisions["sensitivity"]
    assert estimate.low < estimate.value < estimate.high


@pytest.fixture(scope="module")
def by_patient(outputs: CellOutputs) -> tuple[CellOutputs, Part]:
    found = CellOutputs(replace(outputs.grid, level="patient"), Path(), outputs.folders)
    (part,) = parts_of(read_rows(found), found.grid)
    return found, part


def test_a_patient_is_called_abnormal_if_an_image_is(
    outputs: CellOutputs, by_patient: tuple[CellOutputs, Part]
) -> None:
    found = next(row for row in by_patient[1].rows if row.model == "Padim").decisions["specificity"].value
    shares = []
    for run in tables(outputs, "Padim"):
        patients = run.groupby("patient")[["label", "pred_label"]].max()
        shares.append(1 - patients["pred_label"][patients["label"] == 0].mean())
    assert found == pytest.approx(np.mean(shares))


def test_a_model_that_is_always_right_has_exact_intervals(outputs: CellOutputs, tmp_path: Path) -> None:
    grid = replace(outputs.grid, cells=outputs.grid.cells[:1], baseline=None)
    scores = pd.read_csv(outputs.folder(grid.cells[0]) / SCORES, dtype={"patient": str})
    scores.assign(pred_label=scores["label"]).to_csv(tmp_path / SCORES, index=False)
    (tmp_path / RESULT).write_text(json.dumps({"status": "done"}))
    row = read_rows(CellOutputs(grid, tmp_path, {grid.cells[0].key: tmp_path}))[0]
    # 0.025 ** (1 / n): the lower end of n of n, of Clopper and Pearson.
    assert row.decisions["sensitivity"].low == pytest.approx(0.025 ** (3 / PATIENTS))
    assert (row.decisions["specificity"].value, row.decisions["specificity"].high) == (1, 1)


def test_both_kinds_of_intervals_agree(part: Part) -> None:
    table = cross_check(part)
    assert table is not None
    assert table.header[-1] == "p"
    for row in part.models:
        drawn, analytic = row.estimates["AUROC"], row.analytic["AUROC"]
        assert analytic.high - analytic.low == pytest.approx(drawn.high - drawn.low, rel=0.3)
    row = next(row for row in part.models if row.model == "Cae")
    assert row.analytic["against"].value == pytest.approx(row.against["AUROC"].value)
    assert row.analytic["against"].low == pytest.approx(row.against["AUROC"].low, abs=0.04)


def test_percentiles_of_normal_patients(outputs: CellOutputs, part: Part) -> None:
    table, figure = percentiles_of(part, outputs)
    assert table is not None
    assert figure is not None
    (row,) = table.rows  # only this model left the scores of its validation
    shares = []
    for cell in part.cells["Cae"]:
        validation, test = (
            scores[scores["label"] == 0].groupby("patient")["mse"].max()
            for scores in (pd.read_csv(outputs.folder(cell) / name) for name in ("val_scores.csv", "scores.csv"))
        )
        shares.append((test >= np.median(validation)).mean())
    assert row[2].order == pytest.approx(np.mean(shares), abs=0.051)
    assert table.notes == ["20 normal patients validate, 20 test."]


def test_who_is_in_it(outputs: CellOutputs, part: Part) -> None:
    table = patients_table(part, outputs)
    assert table is not None
    assert table.header == ["split", "pictures", "radiographs", "groups", "normal", "abnormal", "age"]
    assert [row[0].text for row in table.rows] == ["training", "training, unlabelled pool", "validation", "test"]
    assert [entry.text for entry in table.rows[0]] == ["training", "22", "10", "5", "20", "2", "median 40, 20 to 60"]


def test_groups_have_figures_of_their_images(outputs: CellOutputs, part: Part) -> None:
    view, age = subgroup_tables(part, outputs)  # nothing is said of the side
    assert [row[0].text for row in view.rows] == ["frontal", "frontal", "lateral", "lateral"]
    (frontal,) = [row for row in view.rows if (row[0].text, row[1].text) == ("frontal", "Cae")]
    runs = [run[::2] for run in tables(outputs, "Cae")]
    assert frontal[2].text == f"{2 * PATIENTS // 3} / {PATIENTS // 3}"
    pairs = [
        (run["mse"][run["label"] == 1].to_numpy()[:, None] > run["mse"][run["label"] == 0].to_numpy()) for run in runs
    ]
    assert frontal[4].order == pytest.approx(np.mean(pairs))
    sensitivities = [run["pred_label"][run["label"] == 1].mean() for run in runs]
    assert frontal[5].order == pytest.approx(np.mean(sensitivities))
    # A third of thirty patients has too few abnormal ones.
    assert {str(row[4].text) for row in age.rows} == {"too few"}
    assert PATIENTS / 3 / 3 < SMALLEST


def test_patients_whose_images_differ_are_of_several_groups(by_patient: tuple[CellOutputs, Part]) -> None:
    (age,) = subgroup_tables(by_patient[1], by_patient[0])  # each patient has both views
    assert age.title.endswith("by age")


def test_lesions_by_size(outputs: CellOutputs, part: Part) -> None:
    table = lesion_table(part, outputs)
    assert table is not None
    small, large = table.rows[:2] if table.rows[0][1] == table.rows[1][1] else table.rows[::2]
    # Heat 0 to 19, of which those above 8.5 are found; every other one is small.
    assert [entry.text for entry in small[:3]] == ["5.0 %", "Cae", "10"]
    assert small[3].order == pytest.approx(np.mean(np.arange(0, 20, 2) > 8.5))
    assert large[3].order == pytest.approx(np.mean(np.arange(1, 20, 2) > 8.5))


def test_the_page_answers_items_of_the_checklist(outputs: CellOutputs, tmp_path: Path) -> None:
    html = write_report(read_rows(outputs), outputs, tmp_path).read_text(encoding="utf-8")
    for text in (
        'id="patients"',
        'id="decisions"',
        'id="groups"',
        'id="check"',
        "Each of the groups is in one split alone",
    ):
        assert text in html, text
    everything = checklist_of(["patients", "decisions", "check", "groups", "cases", "pixels", "size", "figures", "run"])
    nothing = checklist_of([])
    assert not any(item.answer or item.sections for item in nothing.items)
    assert {item.rest for item in nothing.items} == {"all of it"}
    assert sum(bool(item.answer) for item in everything.items) > 15
    assert named_in(item.claim for item in everything.items) == {str(number) for number in range(1, 45)}
    split = {15: "abcd", 16: "abc", 17: "ab", 26: "ab", 40: "ab"}  # of the 40 items of STARD-AI
    rows = {f"{number}{part}" for number in range(1, 41) for part in split.get(number, [""])}
    assert len(rows) == 48  # as the statement counts them
    assert named_in(item.stard for item in everything.items) == rows


def named_in(numbers: Iterable[str]) -> set[str]:
    """Rows that texts such as ``3, 14 to 18`` and ``16a to 17b`` name."""
    lettered = ["15a", "15b", "15c", "15d", "16a", "16b", "16c", "17a", "17b"]
    found: set[str] = set()
    for part in ", ".join(filter(None, numbers)).split(", "):
        first, _, last = part.partition(" to ")
        if first in lettered:
            found.update(lettered[lettered.index(first) : lettered.index(last or first) + 1])
        elif last:
            found.update(str(number) for number in range(int(first), int(last) + 1))
        else:
            found.add(first)
    return found
