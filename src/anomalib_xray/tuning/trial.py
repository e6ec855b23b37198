"""One trial of a search, in a process of its own: ``python -m anomalib_xray.tuning.trial FOLDER DESCRIPTOR``.

The folder has ``trial.json``. The process writes a line ``[epoch, value]`` to the open file descriptor after each
validation, and leaves ``result.json`` with the value of the last weights, or with the reason why there is none.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Any, TextIO

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.build import build, build_data
from anomalib_xray.evaluation.cell import RESULT
from anomalib_xray.io.write import write_atomically
from anomalib_xray.tuning.blind import for_selection
from anomalib_xray.tuning.objective import Objective
from anomalib_xray.tuning.process import TRIAL


class EpochReport(Callback):
    """Writes the measure after each validation of the training.

    Args:
        metric: Name under which it is logged.
        file: File to write lines ``[epoch, value]`` to.
    """

    def __init__(self, metric: str, file: TextIO) -> None:
        super().__init__()
        self.metric = metric
        self.file = file
        self.parent = os.getppid()

    def on_train_batch_start(self, *_: Any) -> None:  # noqa: ANN401
        """Ends the trial where the search was killed: nobody would take its result."""
        if os.getppid() != self.parent:
            raise XrayError("The search has ended.")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the measure of the epoch; one that is not finite, which no median is taken of, is left out."""
        del pl_module
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        value = measured(trainer.callback_metrics, self.metric)
        if isfinite(value):
            print(json.dumps([trainer.current_epoch, value]), file=self.file, flush=True)


def main(folder: Path, descriptor: int) -> int:
    """Runs a trial.

    Args:
        folder: Folder with ``trial.json``.
        descriptor: Open file descriptor that takes the reports.

    Returns:
        Exit status: 0, 1 if it failed.
    """
    task = json.loads((folder / TRIAL).read_text(encoding="utf-8"))
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            result: dict[str, Any] = {"status": "done", "value": _run(task, folder, file)}
    except Exception as error:  # any model may fail in any way, and the search goes on
        reason = str(error) if isinstance(error, XrayError) else f"{type(error).__name__}: {error}"
        result = {"status": "failed", "reason": " ".join(reason.split())}
    write_atomically(folder / RESULT, json.dumps(result, indent=1) + "\n")
    return int(result["status"] != "done")


def _run(task: Mapping[str, Any], folder: Path, file: TextIO) -> float:
    """Trains on the train split and measures on validation."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    from anomalib.engine import Engine
    from anomalib.models import AnomalibModule
    from lightning.pytorch import seed_everything

    import anomalib_xray.models  # noqa: F401  # makes the plugins known
    from anomalib_xray.components import RadiographModel
    from anomalib_xray.scores.table import ScoreTable

    objective, config = Objective(**task["objective"]), task["config"]
    seed_everything(task["seed"], verbose=False)
    model = build(AnomalibModule, config["model"])
    data = for_selection(build_data(config["data"]), objective, Path(task["painted"]))
    arguments = trainer_arguments(config.get("trainer") or {})
    callbacks = [item for item in arguments.pop("callbacks", []) if not isinstance(item, ModelCheckpoint)]
    # Models of this project bring the score table along.
    callbacks += [] if isinstance(model, RadiographModel) else [ScoreTable()]
    own = {"default_root_dir": folder / "run", "logger": False, "enable_progress_bar": False}
    engine = Engine(
        callbacks=[*callbacks, EpochReport(objective.metric, file)],
        **{"num_sanity_val_steps": 0, "enable_model_summary": False, **arguments, **own},
    )
    engine.fit(model, datamodule=data)
    engine.validate(model, datamodule=data, verbose=False)
    value = measured(engine.trainer.callback_metrics, objective.metric)
    if not isfinite(value):
        raise XrayError(f"{objective.metric} is {value} after the last epoch: a score is not finite.")
    return value


def measured(metrics: Mapping[str, Any], name: str) -> float:
    """Finds a measure among what was logged.

    Args:
        metrics: Logged values by name.
        name: Name of the measure; where the model's own metrics have it, the score table's ends in ``_raw``.

    Returns:
        The value.

    Raises:
        XrayError: It was not logged.
    """
    value = metrics.get(f"{name}_raw", metrics.get(name))
    if value is None:
        known = sorted(key for key in metrics if key.startswith("val_"))
        raise XrayError(f"Validation logs no {name}; choose a score and a level that it logs: {', '.join(known)}.")
    return float(value)


def trainer_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a trainer from a configuration, its callbacks built as the stock command builds them.

    Args:
        settings: Arguments by name.

    Returns:
        The same ones; ``callbacks`` are objects.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Trainer, "trainer", instantiate=False, fail_untyped=False)
    # The search has its own loggers: none.
    given = {key: value for key, value in settings.items() if key != "logger"}
    built = parser.instantiate_classes(parser.parse_object({"trainer": given})).trainer
    arguments = {key: built[key] for key in given}
    callbacks = arguments.pop("callbacks", None) or []
    return {**arguments, "callbacks": callbacks if isinstance(callbacks, list) else [callbacks]}


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), int(sys.argv[2])))
