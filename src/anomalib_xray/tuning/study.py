"""The journal of a search: which trials it has, and which of them count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from anomalib_xray.errors import XrayError
from anomalib_xray.tuning.plan import Search

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

JOURNAL, LOCK = "journal.log", ".lock"

SETTINGS = "settings"
"""What the study notes of the search."""

STATUS, REASON, SECONDS = "status", "reason", "seconds"
"""What a finished trial notes besides what Optuna does."""

FINISHED = ("done", "pruned", "failed")
"""How a trial ends; one without a status was interrupted and does not count."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        status: One of :data:`FINISHED`.
        value: What was measured, if it is done.
        reason: Why it failed.
        seconds: How long it took.
    """

    status: str
    value: float | None = None
    reason: str = ""
    seconds: float = 0.0


def require_packages() -> None:
    """Says what to install where a search cannot run.

    Raises:
        XrayError: Optuna or anomalib is missing.
    """
    if find_spec("optuna") is None or find_spec("anomalib") is None:
        raise XrayError("A search needs Optuna and anomalib: pip install 'anomalib-xray[train,tune]' installs them.")


def open_study(search: Search, out: Path) -> Study:
    """Opens the study of a search, or begins it.

    Args:
        search: The search.
        out: Its folder.

    Returns:
        The study.

    Raises:
        XrayError: The folder cannot be used, or holds another search.
    """
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


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Keeps a second search away from a folder; the lock ends with the process, however it ends.

    Args:
        out: Folder of the search.

    Yields:
        Nothing.

    Raises:
        XrayError: A search is running there.
    """
    with (out / LOCK).open("w") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except OSError as error:
            raise XrayError(f"Another search is running in {out}; wait for it, or name another --out.") from error
        yield


def close_interrupted(study: Study) -> None:
    """Ends trials that a process left open which is no more.

    Args:
        study: The study.
    """
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
        study.tell(trial.number, state=TrialState.FAIL)


def status_of(trial: FrozenTrial) -> str:
    """One of :data:`FINISHED`, ``running`` or ``interrupted``."""
    if not trial.state.is_finished():
        return "running"
    return str(trial.user_attrs.get(STATUS, "interrupted"))


def finished(study: Study) -> list[FrozenTrial]:
    """The trials that count, in their order."""
    return [trial for trial in study.get_trials(deepcopy=False) if status_of(trial) in FINISHED]


def best(study: Study) -> FrozenTrial | None:
    """The best trial that is done, the first of equal ones; nothing if none is."""
    sign = -1 if study.direction.name == "MAXIMIZE" else 1
    done = [
        (sign * trial.value, trial.number, trial)
        for trial in finished(study)
        if status_of(trial) == "done" and trial.value is not None
    ]
    return min(done)[2] if done else None
