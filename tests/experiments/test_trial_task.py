from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from optuna import Trial, create_study, pruners

from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.objective import Objective
from anomalib_xray.experiments.search import Search
from anomalib_xray.experiments.space import Space
from anomalib_xray.experiments.trial_task import measured, run_trial

SEARCH = Search({"model": {"init_args": {"width": 8}}}, Space(()), Objective("as published", "AUROC"))
VALUES = {"model.init_args.width": 4}


@pytest.fixture
def trial() -> Trial:
    """A trial that is given up at values below 0.5."""
    return create_study(direction="maximize", pruner=pruners.ThresholdPruner(lower=0.5)).ask()


def evaluate(folder: Path, trial: Trial, script: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a script in place of the interpreter: ``$3`` is the folder of the task."""
    interpreter = folder / "interpreter"
    interpreter.write_text(f"#!/bin/bash\n{script}\n")
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    return run_trial(SEARCH, folder, 1, "cpu", trial, VALUES)


def test_reports_reach_the_trial_and_what_was_trained_is_removed(
    tmp_path: Path, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = """
    echo "[1, 0.625]"; echo "[3, 0.75]"; mkdir $3/run; touch $3/run/model.ckpt
    echo '{"status": "done", "value": 0.875}' > $3/result.json"""
    outcome = evaluate(tmp_path, trial, script, monkeypatch)
    assert (outcome.status, outcome.value, outcome.reason) == ("done", 0.875, "")
    assert trial.study.trials[0].intermediate_values == {1: 0.625, 3: 0.75}
    folder = tmp_path / "trials" / "0000"
    assert not (folder / "run").exists()
    task = json.loads((folder / "task.json").read_text())["arguments"]
    assert task["config"] == {"model": {"init_args": {"width": 4}}}
    assert Objective(**task["objective"]) == SEARCH.objective


def test_a_trial_that_is_given_up_is_ended(tmp_path: Path, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    # The process would never end by itself.
    outcome = evaluate(tmp_path, trial, 'echo "[0, 0.25]"; exec tail -f /dev/null', monkeypatch)
    assert outcome.status == "pruned"
    assert outcome.value is None


def test_a_process_that_dies_is_a_failure(tmp_path: Path, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = evaluate(tmp_path, trial, "echo killed >&2; exit 137", monkeypatch)
    assert outcome.status == "failed"
    assert "ended with status 137; see" in outcome.reason
    assert (tmp_path / "trials" / "0000" / "log.txt").read_text() == "killed\n"


def test_a_measure_is_found_beside_the_model_s_own() -> None:
    metrics = {"val_image_AUROC": 0.5, "val_normal_mean": 0.25, "train_loss": 1.0}
    assert measured(metrics, "val_image_AUROC") == 0.5
    assert measured({**metrics, "val_image_AUROC_raw": 0.75}, "val_image_AUROC") == 0.75
    with pytest.raises(XrayError, match=r"logs no val_image_AP; .* val_image_AUROC, val_normal_mean"):
        measured(metrics, "val_image_AP")
