"""Runs of a search: proposals, trials and their journal, and the files with the results."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib_xray import NOTICE
from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.search import Search
from anomalib_xray.experiments.space import with_values
from anomalib_xray.experiments.trial_task import Outcome
from anomalib_xray.io.progress import track
from anomalib_xray.io.text import write_csv, write_yaml
from anomalib_xray.io.write import alone

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

JOURNAL, LOCK, TABLE, BEST = "journal.log", ".lock", "trials.csv", "best.yaml"

SETTINGS = "settings"
"""Attribute of the study with the settings of its search."""

STATUS, REASON, SECONDS = "status", "reason", "seconds"
"""Attributes of a finished trial; one without a status was interrupted and does not count."""

STARTUP_TRIALS = 10
"""Trials that are drawn at random before proposals learn from the others."""

Evaluate = Callable[["Trial", dict[str, object]], Outcome]
"""Function that tries the values of a trial."""


def require_packages() -> None:
    """Refuses to search without Optuna and anomalib."""
    if find_spec("optuna") is None or find_spec("anomalib") is None:
        raise XrayError("A search needs Optuna and anomalib: pip install 'anomalib-xray[train,tune]' installs them.")


def open_study(search: Search, out: Path) -> Study:
    """Opens the study of a search in its folder, or begins it."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if search.pruning is not None:
        pruner = optuna.pruners.MedianPruner(search.pruning.startup_trials, search.pruning.warmup_epochs)
    try:
        out.mkdir(parents=True, exist_ok=True)
        study = optuna.create_study(
            study_name="search",
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(out / JOURNAL))),
            direction=search.objective.direction,
            pruner=pruner,
            load_if_exists=True,
        )
    except OSError as error:
        raise XrayError(f"{out} cannot be written ({error.strerror}); name another folder with --out.") from error
    except ValueError as error:
        raise XrayError(f"{out / JOURNAL} is no journal of a search; name another folder with --out.") from error
    # As JSON has it, in which tuples are lists.
    settings = json.loads(json.dumps(search.settings, default=str))
    if study.user_attrs.get(SETTINGS, settings) != settings:
        raise XrayError(f"{out} holds a search of other settings; name another folder with --out.")
    if SETTINGS not in study.user_attrs:
        study.set_user_attr(SETTINGS, settings)
    return study


def run_search(search: Search, study: Study, out: Path, trials: int, evaluate: Evaluate) -> None:
    """Runs trials until so many are finished, those of earlier runs included.

    Proposals follow from the seed and the finished trials alone: a stopped search goes on as an uninterrupted one.
    """
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    with alone(out / LOCK, f"Another search is running in {out}; wait for it, or name another --out."):
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
            study.tell(trial.number, state=TrialState.FAIL)  # a stopped process left it open
        done = min(len(finished(study)), trials)
        for count in track(range(done, trials), "trials", trials, done=done):
            study.sampler = TPESampler(seed=(search.seed * 1_000_003 + count) % 2**32, n_startup_trials=STARTUP_TRIALS)
            proposed = study.ask()
            outcome = _try(study, proposed, search, evaluate)
            value = "" if outcome.value is None else f", {outcome.value:.4f}"
            reason = f", {outcome.reason}" if outcome.reason else ""
            print(f"trial {proposed.number}: {outcome.status}{value}{reason} ({outcome.seconds:.0f} s)", flush=True)


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


def status_of(trial: FrozenTrial) -> str:
    """``done``, ``pruned``, ``failed``, ``running`` or ``interrupted``."""
    if not trial.state.is_finished():
        return "running"
    return str(trial.user_attrs.get(STATUS, "interrupted"))


def finished(study: Study) -> list[FrozenTrial]:
    """Trials that count, in their order."""
    return [trial for trial in study.get_trials(deepcopy=False) if status_of(trial) in ("done", "pruned", "failed")]


def best(study: Study) -> FrozenTrial | None:
    """The best trial that is done, the first of equal ones; ``None`` without any."""
    sign = -1 if study.direction.name == "MAXIMIZE" else 1
    done = [trial for trial in finished(study) if status_of(trial) == "done" and trial.value is not None]
    return min(done, key=lambda trial: sign * (trial.value or 0), default=None)


def write_results(search: Search, study: Study, out: Path) -> list[Path]:
    """Writes ``trials.csv``, and ``best.yaml`` for ``anomalib train --config`` once a trial is done; returns them."""
    names = [item.name for item in search.space.ranges]
    columns = ["trial", "status", "value", "epochs", "seconds", *names, "reason"]
    write_csv(out / TABLE, columns, [_row(search, trial) for trial in study.get_trials(deepcopy=False)])
    trial = best(study)
    if trial is None:
        return [out / TABLE]
    header = (
        f"# Trial {trial.number} of a search, the best of {len(finished(study))} finished ones.\n"
        f"# Selection {search.objective.rule}.\n"
        f"# {search.objective.metric}: {trial.value:.6g}. {NOTICE}\n"
    )
    write_yaml(out / BEST, with_values(search.config, search.space.decode(trial.params)), header=header)
    return [out / TABLE, out / BEST]


def _row(search: Search, trial: FrozenTrial) -> dict[str, Any]:
    """Status, measure, settings and reason of a trial."""
    row = {
        "trial": trial.number,
        "status": status_of(trial),
        "value": trial.value,
        "epochs": max(trial.intermediate_values, default=-1) + 1,
        "reason": trial.user_attrs.get(REASON, ""),
    }
    if SECONDS in trial.user_attrs:
        row["seconds"] = f"{trial.user_attrs[SECONDS]:.1f}"
    return {**row, **search.space.decode(trial.params)}
