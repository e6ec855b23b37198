"""The command that searches for settings."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from anomalib_xray import NOTICE
from anomalib_xray.devices import find_devices, tasks_at_once
from anomalib_xray.errors import XrayError
from anomalib_xray.io.progress import status

if TYPE_CHECKING:
    from optuna import Study

    from anomalib_xray.experiments.search import Search


def tune(
    config: Path,
    out: Path = Path("tuning"),
    trials: int = 20,
    workers: int = 1,
    devices: str = "auto",
    dry_run: bool = False,
) -> int:
    """Searches for settings of a model by a stated rule.

    Each trial trains with proposed settings in a process of its own and is judged on validation images, never on test
    images. The search may be stopped at any time; the same command goes on up to the number of trials. It may also be
    given several times at once, on machines that share the folder: they work on one search. OUT/trials.csv has a row
    for each trial, OUT/best.yaml is the best configuration, for anomalib train --config.

    Args:
        config: The search, a YAML file such as configs/tune/cae.yaml.
        out: Folder to write to.
        trials: Trials that are finished in the end, those of earlier runs and of other processes included.
        workers: Trials that run at once; the cores are divided among them. 0 for one per GPU, and one without a GPU.
        devices: GPUs to share among the trials, one at a time each: auto for all that this process sees, a number of
            them, a list such as 0,2 (1, for the second alone), or cpu. One that is listed twice runs two at once.
        dry_run: Check the search, print its ranges, its rule and how long it may take, and run nothing.

    Returns:
        Exit status: 0, 1 if a trial failed, 130 if it was stopped.

    Raises:
        XrayError: The search or the folder cannot be used.
    """
    if trials < 1:
        raise XrayError("--trials is a number of trials: give 1 or more.")
    if workers < 0:
        raise XrayError("--workers is a number of trials that run at once: give 0 or more.")
    at_once = tasks_at_once(find_devices(devices), workers)

    from joblib import cpu_count

    from anomalib_xray.experiments.run_search import (
        JOURNAL,
        SECONDS,
        finished,
        open_study,
        require_packages,
        run_search,
        status_of,
        write_results,
    )
    from anomalib_xray.experiments.search import check_search, read_search
    from anomalib_xray.experiments.trial_task import run_trial

    search = read_search(config)
    require_packages()
    is_new = dry_run and not (out / JOURNAL).is_file()
    study = None if is_new else open_study(search, out)
    done = [] if study is None else finished(study)
    if dry_run or len(done) < trials:
        with status("Checking the ranges"):  # which takes anomalib's start
            check_search(search)
    if dry_run or study is None:
        _print_dry_run(search, trials, at_once, [trial.user_attrs[SECONDS] for trial in done])
        return 0
    threads = max(1, int(os.environ.get("OMP_NUM_THREADS", cpu_count())) // at_once)
    stopped = False
    try:
        run_search(search, study, out, trials, partial(run_trial, search, out, threads, devices), at_once)
    except KeyboardInterrupt:
        stopped = True
    for path in write_results(search, study, out):
        print(path)
    _print_best(search, study, out)
    if stopped:
        print(f"Stopped. What is done is in {out}; the same command goes on.")
        return 130
    return int(any(status_of(trial) == "failed" for trial in finished(study)))


def _print_dry_run(search: Search, trials: int, at_once: int, seconds: list[float]) -> None:
    for item in search.space.ranges:
        print(item)
    print(f"Selection {search.objective.rule}.")
    left = max(trials - len(seconds), 0)
    estimate = "no trial is done yet"
    if seconds:
        estimate = f"about {sum(seconds) / len(seconds) * left / at_once / 60:.0f} minutes"
    print(f"{left} of {trials} trials to run; {estimate}.")


def _print_best(search: Search, study: Study, out: Path) -> None:
    from anomalib_xray.experiments.run_search import BEST, best

    trial = best(study)
    if trial is None:
        print("No trial is done, so that there is no best one; see the reasons in the table.")
        return
    print(f"Selection {search.objective.rule}.")
    print(f"Best is trial {trial.number} with {search.objective.metric} {trial.value:.4f}:")
    for name, value in search.space.decode(trial.params).items():
        print(f"  {name}: {value}")
    print(f"anomalib train --config {out / BEST}")
    print(NOTICE)
