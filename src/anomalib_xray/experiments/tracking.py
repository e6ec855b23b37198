"""Runs of cells in an experiment tracker, MLflow or TensorBoard, by anomalib's loggers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.units import CHOSEN, read_scores
from anomalib_xray.experiments.grid import SCORES, Cell

if TYPE_CHECKING:
    import pandas as pd
    from lightning.pytorch.loggers import Logger

    from anomalib_xray.experiments.evidence import Case

Kind = Literal["mlflow", "tensorboard"]

_SERVER = "MLFLOW_TRACKING_URI"
"""MLflow's own variable with the address of a server or another store."""


@dataclass(frozen=True)
class Tracker:
    """Place where cells are logged.

    Attributes:
        kind: The tracker.
        place: Folder of TensorBoard, or address of MLflow's store.
        experiment: Name of the experiment, which the cells of a benchmark share.
    """

    kind: Kind
    place: str
    experiment: str

    @classmethod
    def prepare(cls, kind: Kind, out: Path, experiment: str) -> Tracker:
        """Makes the store of a benchmark in its folder ``out`` once, since cells that do so together would collide.

        MLflow's is ``mlflow.db`` there, unless ``MLFLOW_TRACKING_URI`` names another.

        Raises:
            XrayError: The tracker is not installed or not reachable.
        """
        if find_spec("anomalib") is None or find_spec(kind) is None:
            extra = "train,mlflow" if kind == "mlflow" else "train"
            raise XrayError(f"--tracker {kind} needs {kind}: pip install 'anomalib-xray[{extra}]' installs it.")
        out.mkdir(parents=True, exist_ok=True)
        if kind == "tensorboard":
            return cls(kind, str((out / "tensorboard").resolve()), experiment)
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        given = os.environ.get(_SERVER)
        place = given or f"sqlite:///{(out / 'mlflow.db').resolve()}"
        # A server keeps files where its owner wants them.
        files = None if given else (out / "mlflow_files").resolve().as_uri()
        try:
            client = MlflowClient(place)
            if client.get_experiment_by_name(experiment) is None:
                client.create_experiment(experiment, artifact_location=files)
        except MlflowException as error:
            reason = " ".join(str(error).split())
            raise XrayError(f"MLflow cannot be used at {place}: {reason} Set {_SERVER}, or unset it.") from error
        return cls(kind, place, experiment)

    def logger(self, cell: Cell) -> Logger:
        """Opens a run of the name of a cell, with the settings of the cell."""
        from anomalib.loggers import AnomalibMLFlowLogger, AnomalibTensorBoardLogger

        if self.kind == "tensorboard":
            logger: Logger = AnomalibTensorBoardLogger(self.place, name=cell.key, version="", default_hp_metric=False)
        else:
            logger = AnomalibMLFlowLogger(self.experiment, cell.key, self.place)
        logger.log_hyperparams({"cell": asdict(cell)})
        return logger


def log_results(logger: Logger, folder: Path, figures: Mapping[str, Any], cases: Mapping[str, list[Case]]) -> None:
    """Logs what a cell measured: metrics under ``cell/``, its ROC curve, and its best and worst cases.

    Args:
        logger: Its run.
        folder: Its folder, with its score table.
        figures: Its result; numbers in it and in its mappings are logged.
        cases: Its cases by kind.
    """
    from anomalib_xray.training.pictures import send_picture
    from anomalib_xray.training.score_table import score_metrics

    table = read_scores(folder / SCORES)
    metrics = {f"cell/{name}": value for name, value in _numbers({**figures, **score_metrics(table)}).items()}
    logger.log_metrics(metrics)
    if CHOSEN in table and table["label"].nunique() == 2:
        send_picture(logger, "curves", _curves(table))
    for kind, some in cases.items():
        for rank, case in enumerate(some, 1):
            send_picture(logger, f"{kind.replace(' ', '_')}_{rank}", _drawn(case))
    logger.finalize("success")


def _numbers(content: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Finite numbers by name; those of an inner mapping follow its name, as ``pixel_AUROC``."""
    found: dict[str, float] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            found |= _numbers(value, f"{prefix}{name}_")
        elif isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
            found[f"{prefix}{name}"] = float(value)
    return found


def _curves(table: pd.DataFrame) -> NDArray[np.float32]:
    """ROC and precision-recall curves of the images, side by side, ``(H, W, 3)`` in [0, 1]."""
    from matplotlib.figure import Figure
    from sklearn.metrics import PrecisionRecallDisplay, RocCurveDisplay

    from anomalib_xray.training.pictures import rendered

    labelled = table[table["label"].notna() & np.isfinite(table[CHOSEN])]
    figure = Figure(figsize=(9, 4.5), dpi=100, layout="constrained")
    for place, display in enumerate((RocCurveDisplay, PrecisionRecallDisplay), 1):
        display.from_predictions(labelled["label"], labelled[CHOSEN], ax=figure.add_subplot(1, 2, place), name=CHOSEN)
    return rendered(figure)


def _drawn(case: Case) -> NDArray[np.float32]:
    """A case as the model saw it, and beside it its heat map, ``(H, W, 3)`` in [0, 1]."""
    import cv2

    from anomalib_xray.edge.overlay import blend

    grey = case["image"].mean(0)
    plain = cv2.cvtColor(np.rint(255 * grey / max(float(grey.max()), 1e-6)).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    pictures = [plain.astype(np.uint8)]
    if case["map"] is not None:
        heat = cv2.resize(case["map"], grey.shape[::-1], interpolation=cv2.INTER_LINEAR)
        # Errors and distances begin at 0; only maps that go below need a bottom of their own.
        bottom = min(0.0, float(heat.min()))
        level = 2 * (heat - bottom) / max(float(heat.max()) - bottom, 1e-12)
        pictures.append(blend(pictures[0], level.astype(np.float32)))
    return np.hstack(pictures)[..., ::-1].astype(np.float32) / np.float32(255)
