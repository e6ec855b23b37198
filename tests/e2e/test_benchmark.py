"""A small comparison by the real command: what is done stays done, what fails says why."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from anomalib_xray.cli import main

pytestmark = pytest.mark.slow

PHANTOM = {"patients": 12, "num_workers": 0, "image_size": 64}
GRID = {
    "data": {"phantom": {"class_path": "anomalib_xray.data.Phantom", "init_args": PHANTOM}},
    "models": {
        "Nmf": {
            "class_path": "anomalib_xray.models.Nmf",
            "init_args": {"image_size": 64, "resolution": 16, "components": 4},
        },
        "Broken": {"class_path": "anomalib_xray.models.Nmf", "init_args": {"image_size": 64, "score": "no_such_score"}},
    },
    "trainer": {"max_epochs": 1, "accelerator": "cpu"},
}


def test_failed_cells_are_rows_and_finished_ones_never_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("grid.yaml").write_text(yaml.safe_dump(GRID, sort_keys=False))
    command = ["benchmark", "--config", "grid.yaml", "--out", "out"]
    assert main(command) == 1
    assert "no_such_score" in Path("out/report.html").read_text(encoding="utf-8")
    table = pd.read_csv("out/results.csv").set_index("model")
    assert 0 <= table.loc["Nmf", "AUROC_low"] <= table.loc["Nmf", "AUROC"] <= table.loc["Nmf", "AUROC_high"] <= 1
    assert table.loc["Nmf", ["gflop", "parameters", "ms_an_image", "peak_memory_gib"]].notna().all()
    assert "no_such_score" in table.loc["Broken", "notes"]
    assert len(table.loc["Shortcuts"]) == 7

    results = {path: path.stat().st_mtime_ns for path in Path("out").rglob("result.json")}
    (done,) = [path for path in results if "-Nmf-" in str(path)]
    (failed,) = [path for path in results if "-Broken-" in str(path)]
    assert json.loads(done.read_text())["versions"]["anomalib"]
    assert main(command) == 1
    assert {path: path.stat().st_mtime_ns for path in results} == results

    capsys.readouterr()
    assert main([*command, "--retry", "true", "--dry_run", "true"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == failed.parent.name
    assert printed[1].startswith("1 of 3 cells to run; about 0 minutes")
