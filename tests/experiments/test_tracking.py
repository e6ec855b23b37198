"""Cells as runs of an experiment tracker."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from anomalib_xray.commands.benchmark import benchmark
from anomalib_xray.errors import XrayError
from anomalib_xray.experiments import tracking
from anomalib_xray.experiments.cell_task import run_cell
from anomalib_xray.experiments.grid import SHORTCUTS, Cell
from anomalib_xray.experiments.tracking import Tracker
from anomalib_xray.jobs import Task

DATA = {
    "class_path": "anomalib_xray.data.Phantom",
    "init_args": {"patients": 8, "positive_share": 0.4, "num_workers": 0, "image_size": 64},
}
MODEL = {
    "class_path": "anomalib_xray.models.Nmf",
    "init_args": {"image_size": 64, "resolution": 16, "components": 2},
}
TRAINER = {"max_epochs": 1, "accelerator": "cpu"}


def cells(root: Path) -> list[Cell]:
    data = {**DATA, "init_args": {**DATA["init_args"], "root": str(root)}}  # type: ignore[dict-item]
    return [
        Cell("Nmf", "hands", "raw", False, 7, MODEL, data, TRAINER),
        Cell(SHORTCUTS, "hands", "raw", False, 0, {}, data),
    ]


def run(cell: Cell, tracker: Tracker, folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True)
    return run_cell(Task(folder, {**asdict(cell), "tracker": asdict(tracker)}))


def test_tensorboard_has_settings_metrics_curves_and_pictures(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = Tracker.prepare("tensorboard", tmp_path, "Hands")
    trained, shortcuts = cells(tmp_path / "hands")
    for cell in (trained, shortcuts):
        result = run(cell, tracker, tmp_path / cell.key)
        assert result["images"] > 0
    found = EventAccumulator(str(tmp_path / "tensorboard" / trained.key)).Reload().Tags()
    assert {"cell/image_AUROC", "cell/training_s", "cell/pixel_Dice", "image_AUROC"} <= set(found["scalars"])
    assert {"curves", "most_anomalous_abnormal_1", "least_anomalous_normal_1"} <= set(found["images"])
    settings = (tmp_path / "tensorboard" / trained.key / "hparams.yaml").read_text()
    assert "class_path: anomalib_xray.models.Nmf" in settings
    scalars = EventAccumulator(str(tmp_path / "tensorboard" / shortcuts.key)).Reload().Tags()["scalars"]
    assert {"cell/image_AUROC_foreground_area", "cell/images"} <= set(scalars)


def test_mlflow_has_settings_metrics_curves_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="MLflow is not installed: pip install 'anomalib-xray[mlflow]'.")
    from mlflow.tracking import MlflowClient

    store = f"file:{tmp_path / 'runs'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # newer ones ask for it; a database takes 10 s to make
    tracker = Tracker.prepare("mlflow", tmp_path / "out", "Hands")
    assert Tracker.prepare("mlflow", tmp_path / "out", "Hands") == tracker
    trained, _ = cells(tmp_path / "hands")
    run(trained, tracker, tmp_path / "cell")
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("Hands")
    assert experiment is not None
    (logged,) = client.search_runs([experiment.experiment_id])
    assert (logged.info.run_name, logged.info.status) == (trained.key, "FINISHED")
    assert logged.data.params["cell/seed"] == "7"
    assert {"cell/image_AUROC", "cell/training_s", "cell/pixel_Dice"} <= logged.data.metrics.keys()
    files = {item.path for item in client.list_artifacts(logged.info.run_id)}
    assert {"curves", "most_anomalous_abnormal_1"} <= files
    broken = Cell("Nmf", "hands", "raw", False, 7, {**MODEL, "init_args": {"score": "none"}}, trained.data_config)
    with pytest.raises(XrayError):
        run(broken, tracker, tmp_path / "broken")
    failed = [one for one in client.search_runs([experiment.experiment_id]) if one.info.run_name == broken.key]
    assert [one.info.status for one in failed] == ["FAILED"]


def test_a_tracker_that_is_not_installed_is_named_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None if name == "mlflow" else object())
    grid = Path(__file__).parents[2] / "configs" / "benchmark" / "smoke.yaml"
    with pytest.raises(XrayError, match=r"pip install 'anomalib-xray\[train,mlflow\]'"):
        benchmark(grid, tmp_path / "out", devices="cpu", tracker="mlflow")
    assert not (tmp_path / "out").exists()
