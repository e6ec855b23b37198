from __future__ import annotations

import csv
import io
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna import Trial, create_study
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from anomalib_xray.errors import XrayError
from anomalib_xray.experiments import run_search as module
from anomalib_xray.experiments.lease import Lease
from anomalib_xray.experiments.objective import Objective
from anomalib_xray.experiments.run_search import (
    PLACE,
    STATUS,
    best,
    finished,
    open_study,
    run_search,
    status_of,
    write_results,
)
from anomalib_xray.experiments.search import Pruning, Search
from anomalib_xray.experiments.space import read_space
from anomalib_xray.experiments.trial_task import Outcome

SEARCH = Search(
    config={"model": {"class_path": "Cae", "init_args": {"width": 8}}, "data": {"class_path": "Hands"}},
    space=read_space(
        {"model.init_args.rate": {"uniform": [0, 1]}, "model.init_args.loss": {"choice": ["l1", "mse"]}}, "s.yaml"
    ),
    objective=Objective("label-free", "painted_AUROC"),
)

Values = dict[str, Any]


def score(values: Values) -> float:
    """Best at 0.3 with the loss l1."""
    return float((values["model.init_args.loss"] == "l1") - (values["model.init_args.rate"] - 0.3) ** 2)


def done(_trial: Trial, values: Values) -> Outcome:
    return Outcome("done", score(values), seconds=1.0)


def raising(number: int, error: BaseException) -> Callable[[Trial, Values], Outcome]:
    """Is done, but is interrupted in the trial of this number."""

    def evaluate(trial: Trial, values: Values) -> Outcome:
        if trial.number == number:
            raise error
        return done(trial, values)

    return evaluate


def run(out: Path, trials: int, evaluate: Callable[[Trial, Values], Outcome] = done, search: Search = SEARCH) -> Any:
    study = open_study(search, out)
    run_search(search, study, out, trials, evaluate)
    return study


def proposals(study: Any) -> list[Values]:
    return [trial.params for trial in finished(study)]


def test_a_search_finds_what_is_best_and_proposes_the_same_again(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a", 25), run(tmp_path / "b", 25)
    assert proposals(first) == proposals(second)
    assert best(first).value == max(trial.value for trial in finished(first))
    assert best(first).value > 0.99
    other = run(tmp_path / "c", 3, search=replace(SEARCH, seed=1))
    assert proposals(other) != proposals(first)[:3]


def test_a_search_goes_on_and_proposes_what_an_uninterrupted_one_does(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", 14)
    run(tmp_path / "parts", 4)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", 14, raising(12, KeyboardInterrupt()))
    parts = run(tmp_path / "parts", 14)
    assert [status_of(trial) for trial in parts.trials].count("interrupted") == 1
    assert status_of(parts.trials[12]) == "interrupted"
    assert proposals(parts) == proposals(whole)
    run(tmp_path / "parts", 14, raising(15, AssertionError("all is done")))


def test_a_trial_of_a_process_that_is_no_more_does_not_count(tmp_path: Path) -> None:
    study = run(tmp_path, 2)
    SEARCH.space.suggest(study.ask())
    study = run(tmp_path, 3)
    assert [trial.state for trial in study.trials] == [
        TrialState.COMPLETE,
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.COMPLETE,
    ]
    assert len(finished(study)) == 3


def rows(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((out / "trials.csv").read_text())))


def test_failures_are_rows_with_their_reason_and_the_best_is_a_configuration(tmp_path: Path) -> None:
    outcomes = [Outcome("failed", reason="out of memory, it says", seconds=2), Outcome("pruned"), Outcome("done", 0.75)]

    def evaluate(trial: Trial, _values: Values) -> Outcome:
        trial.report(0.25, 3)
        return outcomes[trial.number]

    study = run(tmp_path, 3, evaluate)
    assert write_results(SEARCH, study, tmp_path) == [tmp_path / "trials.csv", tmp_path / "best.yaml"]
    table = rows(tmp_path)
    assert [(row["trial"], row["status"], row["reason"]) for row in table] == [
        ("0", "failed", "out of memory, it says"),
        ("1", "pruned", ""),
        ("2", "done", ""),
    ]
    assert [row["value"] for row in table] == ["", "0.25", "0.75"]
    assert {row["epochs"] for row in table} == {"4"}
    text = (tmp_path / "best.yaml").read_text()
    assert "Trial 2 of a search, the best of 3 finished ones" in text
    assert "Selection label-free" in text
    assert "Not a medical device" in text
    rate, loss = table[2]["model.init_args.rate"], table[2]["model.init_args.loss"]
    assert yaml.safe_load(text) == {
        "model": {"class_path": "Cae", "init_args": {"width": 8, "rate": float(rate), "loss": loss}},
        "data": {"class_path": "Hands"},
    }


def test_without_a_trial_that_is_done_there_is_no_best_one(tmp_path: Path) -> None:
    study = run(tmp_path, 1, lambda *_: Outcome("failed", reason="no"))
    assert best(study) is None
    assert write_results(SEARCH, study, tmp_path) == [tmp_path / "trials.csv"]


def test_less_is_better_for_means_and_the_first_of_equal_trials_wins(tmp_path: Path) -> None:
    search = replace(SEARCH, objective=Objective("label-free", "normal_mean"))
    values = [0.5, 0.25, 0.25, 0.75]
    study = run(tmp_path, 4, lambda trial, _: Outcome("done", values[trial.number]), search)
    assert best(study).number == 1


def test_a_trial_below_the_median_is_given_up(tmp_path: Path) -> None:
    advice = []

    def evaluate(trial: Trial, _values: Values) -> Outcome:
        for epoch in range(3):
            trial.report(0.5 if trial.number == 0 else 0.25, epoch)
            advice.append((trial.number, epoch, trial.should_prune()))
        return Outcome("done", 0.5)

    run(tmp_path, 2, evaluate, replace(SEARCH, pruning=Pruning(startup_trials=1, warmup_epochs=1)))
    assert [entry[:2] for entry in advice if entry[2]] == [(1, 1), (1, 2)]


def test_a_folder_of_another_search_is_refused(tmp_path: Path) -> None:
    run(tmp_path, 1)
    with pytest.raises(XrayError, match="holds a search of other settings; name another folder"):
        open_study(replace(SEARCH, seed=3), tmp_path)
    (tmp_path / "journal.log").write_text("no journal\n")
    with pytest.raises(XrayError, match=r"journal\.log is no journal of a search"):
        open_study(SEARCH, tmp_path)


def test_one_process_proposes_as_a_loop_over_the_seeds(tmp_path: Path) -> None:
    expected = create_study(direction="maximize")
    for place in range(13):
        expected.sampler = TPESampler(seed=SEARCH.seed * 1_000_003 + place, n_startup_trials=10)
        trial = expected.ask()
        expected.tell(trial, score(SEARCH.space.suggest(trial)))
    assert proposals(run(tmp_path, 13)) == [trial.params for trial in expected.trials]


TRIALS = 12
PATIENCE = 120  # seconds until a test of several processes is given up


def work(out: Path, sender: Connection, never_ends: bool) -> None:
    """Works on a search, and says which trials it begins."""

    def evaluate(trial: Trial, values: Values) -> Outcome:
        sender.send(trial.number)
        while never_ends:
            signal.pause()
        return done(trial, values)

    module._POLL = 0.01  # nobody shall wait for a test
    run(out, TRIALS, evaluate)


def begin(out: Path, *, never_ends: bool = False) -> tuple[Any, Connection]:
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=work, args=(out, sender, never_ends), daemon=True)
    process.start()
    sender.close()
    return process, receiver


def test_processes_share_a_search_and_take_up_the_trial_of_one_that_is_killed(tmp_path: Path) -> None:
    victim, of_victim = begin(tmp_path, never_ends=True)
    assert of_victim.poll(PATIENCE)
    begun = [of_victim.recv()]
    others = [begin(tmp_path) for _ in range(2)]
    talking = [receiver for _, receiver in others]
    while talking:
        ready = wait(talking, PATIENCE)
        assert ready, "no process goes on"
        for receiver in ready:
            try:
                begun.append(receiver.recv())
            except EOFError:
                talking.remove(receiver)
        if len(begun) == TRIALS:  # all but the one that never ends were begun, and no more can be
            os.kill(victim.pid, signal.SIGKILL)
    for process, _ in others:
        process.join(PATIENCE)
        assert process.exitcode == 0

    study = open_study(SEARCH, tmp_path)
    assert sorted(begun) == list(range(TRIALS + 1))
    assert [status_of(trial) for trial in study.trials if status_of(trial) != "done"] == ["interrupted"]
    assert sorted(trial.user_attrs[PLACE] for trial in finished(study)) == list(range(TRIALS))
    lost = study.trials[begun[0]]
    (again,) = [trial for trial in finished(study) if trial.user_attrs[PLACE] == lost.user_attrs[PLACE]]
    assert again.params == lost.params
    assert len({tuple(params.values()) for params in proposals(study)}) == TRIALS
    assert not list(tmp_path.rglob(".lease"))
    assert not list(tmp_path.rglob("*.lock"))


def test_workers_share_a_search(tmp_path: Path) -> None:
    def evaluate(_trial: Trial, values: Values) -> Outcome:  # which another process can take from here
        return Outcome("done", values["model.init_args.rate"])

    study = open_study(SEARCH, tmp_path)
    run_search(SEARCH, study, tmp_path, 5, evaluate, workers=2)
    assert {status_of(trial) for trial in study.trials} == {"done"}
    assert sorted(trial.user_attrs[PLACE] for trial in study.trials) == list(range(5))


def test_no_more_trials_than_asked_are_begun_beside_one_that_runs(tmp_path: Path) -> None:
    study = open_study(SEARCH, tmp_path)
    running = study.ask()
    SEARCH.space.suggest(running)
    running.set_user_attr(PLACE, 0)
    lease = Lease(tmp_path / "trials" / "0000" / ".lease")

    def evaluate(trial: Trial, values: Values) -> Outcome:
        if trial.number == 2:  # the last that may be begun
            running.set_user_attr(STATUS, "done")
            study.tell(running, 0.5)
            lease.close()
        return done(trial, values)

    run(tmp_path, 3, evaluate)
    assert [trial.user_attrs.get(PLACE) for trial in study.trials] == [0, 1, 2]


def test_a_process_that_was_taken_for_gone_leaves_its_trial_to_others(tmp_path: Path) -> None:
    """It slept, another one took its trial, and now it has a result, or its user interrupts it."""
    other = open_study(SEARCH, tmp_path)

    def evaluate(trial: Trial, values: Values) -> Outcome:
        if trial.number in (0, 1):
            other.tell(trial.number, state=TrialState.FAIL)
        if trial.number == 1:
            trial.report(0.5, 0)
        return done(trial, values)

    study = run(tmp_path, 2, evaluate)
    assert [status_of(trial) for trial in study.trials] == ["interrupted", "interrupted", "done", "done"]
    assert study.trials[0].params == study.trials[1].params == study.trials[2].params

    def interrupted(trial: Trial, _values: Values) -> Outcome:
        other.tell(trial.number, state=TrialState.FAIL)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, 3, interrupted)
