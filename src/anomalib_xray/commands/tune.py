"""The command that searches for settings."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from anomalib_xray import NOTICE
from anomalib_xray.errors import XrayError
from anomalib_xray.io.progress import status

if TYPE_CHECKING:
    from optuna import Study

    from anomalib_xray.experiments.search import Search


def tune(config: Path, out: Path = Path("tuning"), trials: int = 20, dry_run: bool = False) -> int:
    """Searches for settings of a model by a stated rule.

    Each trial trains with proposed settings in a process of its own and is judged on validation images, never on test
    images. The search may be stopped at any time; the same command goes on up to the number of trials. OUT/trials.csv
    has a row for each trial, OUT/best.yaml is the best configuration, for anomalib train --config.

    Args:
        config: The search, a YAML file such as configs/tune/cae.yaml.
        out: Folder to write to.
        trials: Trials that are finished in the end, those of earlier runs included.
        dry_run: Check the search, print its ranges, its rule and how long it may take, and run nothing.

    Returns:
        Exit status: 0, 1 if a trial failed, 130 if it was stopped.

    Raises:
        XrayError: The search or the folder cannot be used.
    """
    if trials < 1:
        raise XrayError("--trials is a number of trials: give 1 or more.")

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
        _print_dry_run(search, trials, [trial.user_attrs[SECONDS] for trial in done])
        return 0
    stopped = False
    try:
        run_search(search, study, out, trials, partial(run_trial, search, out))
    except KeyboardInterrupt:
        stopped = True
    for path in write_results(search, study, out):
        print(path)
    _print_best(search, study, out)
    if stopped:
        print(f"Stopped. What is done is in {out}; the same command goes on.")
        return 130
    return int(any(status_of(trial) == "failed" for trial in finished(study)))


def _print_dry_run(search: Search, trials: int, seconds: list[float]) -> None:
    for item in search.space.ranges:
        print(item)
    print(f"Selection {search.objective.rule}.")
    left = max(trials - len(seconds), 0)
    estimate = f"about {sum(seconds) / len(seconds) * left / 60:.0f} minutes" if seconds else "no trial is done yet"
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
