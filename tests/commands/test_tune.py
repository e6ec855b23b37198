from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from anomalib_xray.cli import main
from anomalib_xray.experiments import search as module
from anomalib_xray.experiments import trial_task
from anomalib_xray.experiments.run_search import open_study
from anomalib_xray.experiments.search import read_search
from anomalib_xray.experiments.trial_task import Outcome

SEARCH = {
    "base": "base.yaml",
    "ranges": {"model.init_args.width": {"int": [4, 8]}},
    "objective": {"selection": "label-free"},
}


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "base.yaml").write_text("model: {class_path: Cae}\ndata: {class_path: Hands}\n")
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(SEARCH))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "search.yaml"


def test_a_dry_run_says_what_would_be_searched_and_by_which_rule(
    search: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "check_search", lambda _: None)
    assert main(["tune", "--config", str(search), "--dry_run", "true", "--trials", "7"]) == 0
    printed = capsys.readouterr().out
    assert "model.init_args.width: int [4, 8]" in printed
    assert "Selection label-free: highest AUROC" in printed
    assert "7 of 7 trials to run; no trial is done yet." in printed
    assert not (search.parent / "tuning").exists()


def test_without_optuna_the_command_says_what_to_install(
    search: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("anomalib_xray.experiments.run_search.find_spec", lambda _: None)
    assert main(["tune", "--config", str(search)]) == 2
    assert "pip install 'anomalib-xray[train,tune]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials", "0"], "--trials is a number of trials: give 1 or more."),
        (["--workers", "-1"], "--workers is a number of trials that run at once: give 0 or more."),
        (["--config", "gone.yaml"], "gone.yaml cannot be read"),
        (["--config", "base.yaml"], "base.yaml names no base"),
    ],
)
def test_mistakes_are_one_sentence(
    search: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "--config", str(search), *arguments]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1


def test_a_search_that_has_ended_closes_what_was_killed_and_writes_its_tables(
    search: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "check_search", lambda _: None)
    monkeypatch.setattr(trial_task, "run_trial", lambda *_: Outcome("done", 0.75))
    assert main(["tune", "--config", str(search), "--trials", "1"]) == 0
    study = open_study(read_search(search), Path("tuning"))
    read_search(search).space.suggest(study.ask())
    capsys.readouterr()
    assert main(["tune", "--config", str(search), "--trials", "1"]) == 0
    printed = capsys.readouterr().out
    assert "Best is trial 0 with val_image_AUROC 0.7500" in printed
    assert "Not a medical device" in printed
    rows = Path("tuning/trials.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows[1:]] == ["done", "interrupted"]


def test_a_search_that_is_stopped_says_so(
    search: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "check_search", lambda _: None)
    monkeypatch.setattr(trial_task, "run_trial", stopped)
    assert main(["tune", "--config", str(search)]) == 130
    assert "Stopped. What is done is in tuning; the same command goes on." in capsys.readouterr().out
