"""Proposes settings and has them tried until enough trials are finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from anomalib_xray.io.progress import track
from anomalib_xray.tuning.plan import Search
from anomalib_xray.tuning.study import REASON, SECONDS, STATUS, Outcome, alone, close_interrupted, finished

if TYPE_CHECKING:
    from optuna import Study, Trial

STARTUP_TRIALS = 10
"""Trials that are drawn at random before proposals learn from the others."""

Evaluate = Callable[["Trial", dict[str, object]], Outcome]
"""Tries the values of a trial and says how it went."""


def run_search(search: Search, study: Study, out: Path, trials: int, evaluate: Evaluate) -> None:
    """Runs trials until a number of them is finished.

    What is proposed follows from the seed and from the finished trials alone. So a search that was stopped proposes the
    trial that it was stopped in once more, and then what an uninterrupted one would.

    Args:
        search: The search.
        study: Its journal, see :func:`anomalib_xray.tuning.study.open_study`.
        out: Its folder.
        trials: Number of finished trials, those of earlier runs included.
        evaluate: Tries the values of a trial.

    Raises:
        XrayError: Another search runs in the folder.
        KeyboardInterrupt: The search was stopped; the trial that ran does not count.
    """
    from optuna.samplers import TPESampler

    with alone(out):
        close_interrupted(study)
        done = min(len(finished(study)), trials)
        for count in track(range(done, trials), "trials", trials, done=done):
            study.sampler = TPESampler(seed=seed_of(search.seed, count), n_startup_trials=STARTUP_TRIALS)
            trial = study.ask()
            print(_line(trial, _try(study, trial, search, evaluate)), flush=True)


def seed_of(seed: int, count: int) -> int:
    """Seed of the proposal that follows a number of finished trials."""
    return (seed * 1_000_003 + count) % 2**32


def _try(study: Study, trial: Trial, search: Search, evaluate: Evaluate) -> Outcome:
    """Proposes, tries and notes one trial."""
    from optuna.trial import TrialState

    states = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    try:
        outcome = evaluate(trial, search.space.suggest(trial))
    except BaseException:
        study.tell(trial, state=TrialState.FAIL)
        raise
    trial.set_user_attr(REASON, outcome.reason)
    trial.set_user_attr(SECONDS, outcome.seconds)
    trial.set_user_attr(STATUS, outcome.status)
    # A pruned trial keeps the last value that it reported.
    study.tell(trial, outcome.value if outcome.status == "done" else None, state=states[outcome.status])
    return outcome


def _line(trial: Trial, outcome: Outcome) -> str:
    value = "" if outcome.value is None else f", {outcome.value:.4f}"
    reason = f", {outcome.reason}" if outcome.reason else ""
    return f"trial {trial.number}: {outcome.status}{value}{reason} ({outcome.seconds:.0f} s)"
