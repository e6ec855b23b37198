"""The task of one trial of a search, which reports after each epoch and may be given up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib_xray.devices import find_devices
from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.configuration import begin, build, build_data, engine_for
from anomalib_xray.experiments.objective import Objective
from anomalib_xray.experiments.search import Search
from anomalib_xray.experiments.space import with_values
from anomalib_xray.jobs import Process, Task, write_task

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer
    from optuna import Trial


@dataclass(frozen=True)
class Outcome:
    """End of a trial: ``done`` with the measured value, ``pruned``, or ``failed`` with a reason."""

    status: str
    value: float | None = None
    reason: str = ""
    seconds: float = 0.0


def run_trial(
    search: Search, out: Path, threads: int, devices: str, trial: Trial, values: Mapping[str, Any]
) -> Outcome:
    """Trains with proposed values in a fresh interpreter and measures.

    The trial takes the measure of each epoch, and may be given up after it. Its task, result and log stay in
    ``out/trials``.

    Args:
        search: The search.
        out: Its folder.
        threads: Threads of the interpreter.
        devices: GPUs of which it gets one, as of :func:`anomalib_xray.devices.find_devices`.
        trial: The trial.
        values: Its values by dotted name.
    """
    arguments = {
        "config": with_values(search.config, values),
        "objective": asdict(search.objective),
        "seed": search.seed,
        "painted": str((out / "painted").resolve()),
    }
    folder = write_task(out / "trials" / f"{trial.number:04d}", train_and_validate, arguments)
    start = time.perf_counter()
    with Process(folder, threads, find_devices(devices)) as process:
        while (report := process.answer()) is not None:
            epoch, value = report
            trial.report(value, epoch)
            if trial.should_prune():
                return Outcome("pruned", seconds=time.perf_counter() - start)
        result = process.result()
    seconds = time.perf_counter() - start
    return Outcome(result["status"], result.get("value"), result.get("reason", ""), seconds)


def train_and_validate(task: Task) -> dict[str, Any]:
    """Trains on the train split; answers ``[epoch, value]`` after each validation, returns that of the last weights."""
    config, objective = task.arguments["config"], Objective(**task.arguments["objective"])
    begin(task.arguments["seed"])
    from anomalib.models import AnomalibModule
    from lightning.pytorch.callbacks import LambdaCallback
    from lightning.pytorch.trainer.states import TrainerFn

    from anomalib_xray.experiments.painting import for_selection
    from anomalib_xray.training.pseudo_auc import PseudoAuc

    def report(trainer: Trainer, _: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            value = measured(trainer.callback_metrics, objective.metric)
            if isfinite(value):  # no median exists of others
                task.answer([trainer.current_epoch, value])

    model = build(AnomalibModule, config["model"])
    data = for_selection(build_data(config["data"]), objective, Path(task.arguments["painted"]))
    callbacks = [LambdaCallback(on_validation_end=report), *([PseudoAuc()] if objective.measure == "AUCp" else [])]
    engine = engine_for(model, config.get("trainer") or {}, task.folder, *callbacks)
    engine.fit(model, datamodule=data)
    engine.validate(model, datamodule=data, verbose=False)
    value = measured(engine.trainer.callback_metrics, objective.metric)
    if not isfinite(value):
        raise XrayError(f"{objective.metric} is {value} after the last epoch: a score is not finite.")
    return {"value": value}


def measured(metrics: Mapping[str, Any], name: str) -> float:
    """Finds a logged measure; beside a model's own metric, that of the score table ends in ``_raw``.

    >>> measured({"val_image_AUROC": 0.7, "val_image_AUROC_raw": 0.8}, "val_image_AUROC")
    0.8
    """
    value = metrics.get(f"{name}_raw", metrics.get(name))
    if value is None:
        known = sorted(key for key in metrics if key.startswith("val_"))
        raise XrayError(f"Validation logs no {name}; choose a score and a level that it logs: {', '.join(known)}.")
    return float(value)
