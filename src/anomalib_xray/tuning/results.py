"""What a search leaves: a table of its trials and the best configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from anomalib_xray.edge.bundle import NOTICE
from anomalib_xray.io.text import csv_text
from anomalib_xray.io.write import write_atomically
from anomalib_xray.tuning.plan import Search
from anomalib_xray.tuning.space import with_values
from anomalib_xray.tuning.study import REASON, SECONDS, best, finished, status_of

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

TABLE, BEST = "trials.csv", "best.yaml"


def write_results(search: Search, study: Study, out: Path) -> list[Path]:
    """Writes ``trials.csv``, and ``best.yaml`` once a trial is done.

    Args:
        search: The search.
        study: Its journal.
        out: Folder to write to.

    Returns:
        The files.
    """
    write_atomically(out / TABLE, _table(search, study))
    trial = best(study)
    if trial is None:
        return [out / TABLE]
    write_atomically(out / BEST, _configuration(search, study, trial))
    return [out / TABLE, out / BEST]


def _table(search: Search, study: Study) -> str:
    """One row a trial: how it ended, what was measured, its settings, and why it failed."""
    names = [item.name for item in search.space.ranges]
    rows = []
    for trial in study.get_trials(deepcopy=False):
        row: dict[str, Any] = {
            "trial": trial.number,
            "status": status_of(trial),
            "value": trial.value,
            "epochs": max(trial.intermediate_values, default=-1) + 1,
            "reason": trial.user_attrs.get(REASON, ""),
        }
        if SECONDS in trial.user_attrs:
            row["seconds"] = f"{trial.user_attrs[SECONDS]:.1f}"
        rows.append({**row, **search.space.decode(trial.params)})
    return csv_text(["trial", "status", "value", "epochs", "seconds", *names, "reason"], rows)


def _configuration(search: Search, study: Study, trial: FrozenTrial) -> str:
    """The configuration of a trial, as ``anomalib train --config`` takes it."""
    header = (
        f"# Trial {trial.number} of a search, the best of {len(finished(study))} finished ones.\n"
        f"# Selection {search.objective.rule}.\n"
        f"# {search.objective.metric}: {trial.value:.6g}. {NOTICE}\n"
    )
    config = with_values(search.config, search.space.decode(trial.params))
    return header + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
