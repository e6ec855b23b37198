"""Runs of a search: proposals, trials and their journal, which several processes share, and the results.

A search is a folder, on which several processes may work. Each claims one trial after the other and holds a lease of
the one that it runs.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib_xray import NOTICE
from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.lease import Lease, is_gone
from anomalib_xray.experiments.search import Search
from anomalib_xray.experiments.space import with_values
from anomalib_xray.experiments.trial_task import Outcome
from anomalib_xray.io.progress import track
from anomalib_xray.io.text import write_csv, write_yaml
from anomalib_xray.jobs import results

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages.journal import JournalFileOpenLock
    from optuna.trial import FrozenTrial

JOURNAL, TABLE, BEST = "journal.log", "trials.csv", "best.yaml"

SETTINGS = "settings"
"""Attribute of the study with the settings of its search."""

STATUS, REASON, SECONDS = "status", "reason", "seconds"
"""Attributes of a finished trial; one without a status was interrupted and does not count."""

_STATES = {"done": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
"""Optuna's state of each status."""

PLACE = "place"
"""Attribute of a trial: its place among those that count, from 0. An interrupted trial leaves it to another one."""

_CLAIM = "claim"  # name of the lock, to which Optuna adds an ending

_POLL = 2.0  # seconds between looks for a trial that others gave up; trials take minutes

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
        with _claiming(out):
            backend = JournalFileBackend(str(out / JOURNAL), _lock(out / JOURNAL))
            study = optuna.create_study(
                study_name="search",
                storage=optuna.storages.JournalStorage(backend),
                direction=search.objective.direction,
                pruner=pruner,
                load_if_exists=True,
            )
            # As JSON has it, in which tuples are lists.
            settings = json.loads(json.dumps(search.settings, default=str))
            if study.user_attrs.get(SETTINGS, settings) != settings:
                raise XrayError(f"{out} holds a search of other settings; name another folder with --out.")
            if SETTINGS not in study.user_attrs:
                study.set_user_attr(SETTINGS, settings)
    except OSError as error:
        raise XrayError(f"{out} cannot be written ({error.strerror}); name another folder with --out.") from error
    except ValueError as error:
        raise XrayError(f"{out / JOURNAL} is no journal of a search; name another folder with --out.") from error
    return study


def run_search(search: Search, study: Study, out: Path, trials: int, evaluate: Evaluate, workers: int = 1) -> None:
    """Runs trials until so many are finished, those of earlier runs and of other processes included.

    Proposals follow from the seed, the place of the trial and the trials before it: a single process proposes what it
    always would, and a stopped search goes on as an uninterrupted one. Of several processes each has places of its own,
    no more than ``trials`` in all, and proposals keep away from those that run. A trial whose process is gone is tried
    again with the same values; so a process waits for the last trials of others.

    Args:
        search: The search.
        study: Its study, see :func:`open_study`.
        out: Its folder, which processes on several machines may share.
        trials: Trials that are finished in the end.
        evaluate: Tries values; with several workers it has to be a function that another process can import.
        workers: Processes of this call.
    """
    with _claiming(out):
        _close_gone(study, out)
    done = min(len(finished(study)), trials)
    run = partial(_run_one, search, study, out, trials, evaluate)
    for line in track(results(run, range(done, trials), workers=workers), "trials", trials, done=done):
        if line:
            print(line, flush=True)


def _run_one(search: Search, study: Study, out: Path, trials: int, evaluate: Evaluate, _: int) -> str:
    """Runs the next trial to its end; a line about it, empty if others have run all."""
    from optuna.exceptions import UpdateFinishedTrialError

    while len(finished(study)) < trials:
        with _claiming(out):
            claimed = _claim(search, study, out, trials)
        if claimed is None:
            time.sleep(_POLL)
            continue
        trial, values, lease = claimed
        with closing(lease), suppress(UpdateFinishedTrialError):  # after a long sleep, when others took it for gone
            outcome = _try(study, trial, values, evaluate)
            value = "" if outcome.value is None else f", {outcome.value:.4f}"
            reason = f", {outcome.reason}" if outcome.reason else ""
            return f"trial {trial.number}: {outcome.status}{value}{reason} ({outcome.seconds:.0f} s)"
    return ""


def _claim(search: Search, study: Study, out: Path, trials: int) -> tuple[Trial, dict[str, Any], Lease] | None:
    """Proposes values for the first free place; ``None`` while other processes have all that are left."""
    from optuna.samplers import BaseSampler, PartialFixedSampler, TPESampler
    from optuna.trial import TrialState

    _close_gone(study, out)
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    # Trials of earlier versions, which ran one after the other, have no place noted.
    taken = {trial.user_attrs.get(PLACE, number) for number, trial in enumerate(finished(study))}
    taken |= {trial.user_attrs.get(PLACE) for trial in running}
    if len(taken) >= trials:
        return None
    place = next(number for number in count() if number not in taken)
    sampler: BaseSampler = TPESampler(seed=(search.seed * 1_000_003 + place) % 2**32, n_startup_trials=STARTUP_TRIALS)
    for trial in reversed(study.get_trials(deepcopy=False)):
        if trial.user_attrs.get(PLACE) == place and len(trial.params) == len(search.space.ranges):
            with warnings.catch_warnings(action="ignore"):  # Optuna calls it experimental
                sampler = PartialFixedSampler(trial.params, sampler)
            break
    study.sampler = sampler
    proposed = study.ask()
    lease = Lease(_lease_of(out, proposed.number))
    try:
        proposed.set_user_attr(PLACE, place)
        return proposed, search.space.suggest(proposed), lease
    except BaseException:
        lease.close()
        raise


def _close_gone(study: Study, out: Path) -> None:
    """Marks trials whose processes are gone as interrupted."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        lease = _lease_of(out, trial.number)
        if is_gone(lease, _now(out)):
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
            lease.unlink(missing_ok=True)


def _lease_of(out: Path, number: int) -> Path:
    return out / "trials" / f"{number:04d}" / ".lease"


def _lock(path: Path) -> JournalFileOpenLock:
    """Optuna's lock of a file, which works on drives of a network and ends half a minute after its process."""
    from optuna.storages.journal import JournalFileOpenLock

    return JournalFileOpenLock(str(path))


@contextmanager
def _claiming(out: Path) -> Iterator[None]:
    """Keeps other processes from claiming a trial of the same search."""
    claim = _lock(out / _CLAIM)
    claim.acquire()
    try:
        yield
    finally:
        with suppress(RuntimeError):  # it took so long that another process broke the lock
            claim.release()


def _now(out: Path) -> float:
    """The time by the clock of the drive, in seconds."""
    probe = out / f".{_CLAIM}"
    probe.touch()
    return probe.stat().st_mtime


def _try(study: Study, trial: Trial, values: dict[str, Any], evaluate: Evaluate) -> Outcome:
    """Tries and notes one trial."""
    from optuna.trial import TrialState

    try:
        outcome = evaluate(trial, values)
    except BaseException:
        study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        raise
    trial.set_user_attr(REASON, outcome.reason)
    trial.set_user_attr(SECONDS, outcome.seconds)
    trial.set_user_attr(STATUS, outcome.status)
    # A pruned trial keeps the last value that it reported.
    value = outcome.value if outcome.status == "done" else None
    study.tell(trial, value, state=TrialState[_STATES[outcome.status]], skip_if_finished=True)
    return outcome


def status_of(trial: FrozenTrial) -> str:
    """``done``, ``pruned``, ``failed``, ``running`` or ``interrupted``."""
    if not trial.state.is_finished():
        return "running"
    status = str(trial.user_attrs.get(STATUS))
    return status if _STATES.get(status) == trial.state.name else "interrupted"


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
    with _claiming(out):  # so that no process writes what is older than what another one wrote
        _close_gone(study, out)
        return _write_results(search, study, out)


def _write_results(search: Search, study: Study, out: Path) -> list[Path]:
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
