"""The report of runs that the stock command left."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from anomalib_xray.cli import main
from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.units import VALIDATION_SCORES
from anomalib_xray.experiments.grid import SCORES, Cell
from anomalib_xray.report.results import read_rows
from anomalib_xray.report.runs import CONFIG, LABEL_FREE, LABELLED, outputs_of_runs

from .conftest import score_table, write_evidence


def make_run(folder: Path, *, seed: int = 1, model: str = "anomalib_xray.models.Cae", **settings: Any) -> Path:
    """What a training and a test of the stock command leave."""
    folder.mkdir(parents=True)
    table = score_table(Cell("Cae", "hands", "raw", False, seed))
    table.to_csv(folder / SCORES, index=False)
    table.to_csv(folder / VALIDATION_SCORES, index=False)
    data = {"class_path": "anomalib_xray.data.Phantom", "init_args": {"root": "phantoms", "table": None}}
    init_args = {"score": "mse", "seed": seed, **settings}
    config = {"model": {"class_path": model, "init_args": init_args}, "data": data, "trainer": {"max_epochs": 3}}
    (folder / CONFIG).write_text(yaml.safe_dump(config))
    return folder


def test_a_run_has_the_report_of_a_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run")
    write_evidence(run, score_table(Cell("Cae", "hands", "raw", False, 1)))
    (run / "result.json").write_text(json.dumps({"status": "done", "images": 60, "pixel": {"AUROC": 0.75}}))
    assert main(["report", str(run), f"--out={tmp_path / 'out'}", "--title=The only one"]) == 0
    page = tmp_path / "out" / "report.html"
    assert capsys.readouterr().out == f"{page}\n"
    html = page.read_text(encoding="utf-8")
    for text in (
        "<h1>The only one</h1>",
        "Phantom, raw",
        "Best and worst cases",
        "0.750",
        "data:image/jpeg",
        "False alarms",
    ):
        assert text in html, text
    assert "What it costs" not in html


def test_a_run_without_evidence_has_figures_of_its_scores(tmp_path: Path) -> None:
    outputs = outputs_of_runs([make_run(tmp_path / "run")], "image")
    (row,) = read_rows(outputs)
    table = score_table(Cell("Cae", "hands", "raw", False, 1))
    assert row.estimates["AUROC"].value == pytest.approx(
        (table["mse"][table["label"] == 1].to_numpy()[:, None] > table["mse"][table["label"] == 0].to_numpy()).mean()
    )
    assert outputs.grid.title == "Cae on Phantom"
    (cell,) = outputs.grid.cells
    assert cell.data_config["init_args"] == {"root": "phantoms"}


def test_several_runs_stand_in_one_table(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 2))]
    runs.append(make_run(tmp_path / "c", model="anomalib.models.Padim"))
    f1 = {"class_path": "anomalib_xray.training.post_processor.XrayPostProcessor", "init_args": {"threshold": "f1"}}
    runs.append(make_run(tmp_path / "d", model="anomalib_xray.models.Vae", post_processor=f1))
    outputs = outputs_of_runs(runs, "patient", "Four")
    assert [row.model for row in read_rows(outputs)] == ["Cae", f"Cae {runs[1]}", "Padim", "Vae"]
    assert list(outputs.grid.selection.values()) == [LABEL_FREE, LABEL_FREE, LABELLED, LABELLED]


def test_what_is_no_tested_run_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    with pytest.raises(XrayError, match=r"b has no scores\.csv; name the folder of a run"):
        outputs_of_runs([run, tmp_path / "b"], "image")
    with pytest.raises(XrayError, match="named twice"):
        outputs_of_runs([run, run], "image")
    other = tmp_path / "c"
    shutil.copytree(run, other)
    (other / SCORES).write_text((run / SCORES).read_text().replace("/data/hands/", "/data/feet/"))
    with pytest.raises(XrayError, match=r"c and .*a tested other images of Phantom"):
        outputs_of_runs([run, other], "image")


def test_a_run_without_its_settings_is_named_by_its_folder(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine")
    (run / CONFIG).unlink()
    (cell,) = outputs_of_runs([run], "image").grid.cells
    assert (cell.model, cell.data) == ("mine", "data")
