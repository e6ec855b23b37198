from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml

from anomalib_xray.evaluation.plan import Cell, Grid
from anomalib_xray.evaluation.report.facts import config_of, facts_of, failures_of
from anomalib_xray.evaluation.report.material import Material


def test_failures_are_named_with_their_reason(grid: Grid, out: Path) -> None:
    failures = failures_of(Material(grid, out))
    assert [(failure.where, failure.seed) for failure in failures[:3]] == [
        ("hands, raw, Broken", 1),
        ("hands, raw, Broken", 2),
        ("hands, raw, equalised, Broken", 1),
    ]
    assert len(failures) == 6
    assert failures[0].reason.startswith("RuntimeError: ")


def test_facts_count_what_was_run(grid: Grid, out: Path) -> None:
    facts = facts_of(Material(grid, out))
    assert facts["Cells"] == "32 of 44 done, 6 failed, 6 not run"
    assert facts["Seeds of the models"] == "1, 2"
    assert facts["Training, all cells"] == "5.0 minutes"
    assert (facts["Threads a cell"], facts["torch"], facts["Baseline"]) == ("1", "2", "Padim")


def test_facts_of_nothing(tmp_path: Path, grid: Grid) -> None:
    facts = facts_of(Material(grid, tmp_path))
    assert facts["Results from"] == "none yet"
    assert facts["Machine"] == "not recorded"


def test_the_settings_are_yaml(grid: Grid) -> None:
    content = yaml.safe_load(config_of(grid))
    assert content["models"]["Cae"] == {
        "class_path": "anomalib_xray.models.Cae",
        "init_args": {"score": "mse"},
        "trainer": {"max_epochs": 3},
        "scores": ["mse", "l1"],
        "selection": "label-free",
    }
    assert content["data"]["hands"]["class_path"] == "anomalib_xray.data.Mura"
    assert content["training_sizes"] == [10, 20]
    assert "&id" not in config_of(grid)


def test_data_of_a_model_s_own_are_among_its_settings(grid: Grid) -> None:
    def changed(cell: Cell) -> Cell:
        data = {**cell.data_config, "init_args": {**cell.data_config["init_args"], "train_batch_size": 80}}
        return replace(cell, data_config=data) if cell.model == "Cae" else cell

    content = yaml.safe_load(config_of(replace(grid, cells=[changed(cell) for cell in grid.cells])))
    assert content["models"]["Cae"]["data"] == {"train_batch_size": 80}
    assert "data" not in content["models"]["Padim"]
    assert "train_batch_size" not in content["data"]["hands"]["init_args"]
