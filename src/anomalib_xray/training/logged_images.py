"""Pictures in the experiment's logger while a model trains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torchvision.utils import make_grid

PICTURES_IN_A_ROW = 8

PICTURE_EPOCHS = 10
"""Pictures are logged every this many epochs."""


def log_pictures(module: LightningModule, pictures: Mapping[str, Tensor]) -> None:
    """Sends grids of pictures to every logger that takes images; anomalib's TensorBoard, MLflow, W&B and Comet do.

    Args:
        module: The model that is training.
        pictures: Pictures by name, each ``(N, 1, H, W)`` in [0, 1].
    """
    for name, images in pictures.items():
        grid = make_grid(images.detach().float().cpu().clamp(0, 1), nrow=PICTURES_IN_A_ROW)
        log_picture(module, name, grid.permute(1, 2, 0).numpy())


def log_picture(module: LightningModule, name: str, picture: NDArray[np.float32]) -> None:
    """Sends one picture to every logger that takes images.

    Args:
        module: The model that is training.
        name: What it shows.
        picture: ``(H, W, 3)`` in [0, 1].
    """
    for logger in module.loggers:
        add_image = getattr(logger, "add_image", None)
        if add_image is not None:
            add_image(picture, name=_name_for(logger, name, module.global_step), global_step=module.global_step)


def takes_pictures(module: LightningModule) -> bool:
    """Whether any logger of the run takes images."""
    return any(hasattr(logger, "add_image") for logger in module.loggers)


def _name_for(logger: object, name: str, step: int) -> str:
    """MLflow keeps pictures as files, which need an ending, and without the step the next one would replace it."""
    return f"{name}/{step:08d}.png" if "MLFlow" in type(logger).__name__ else name


BINS = 30

KINDS = {0: "normal", 1: "abnormal", -1: "not labelled"}
"""Names of the labels."""


class ScoreHistograms(Callback):
    """Logs a histogram of each score of the validation images, normal and abnormal ones in two colours.

    Every tenth epoch, under ``scores_<name>``, to every logger that takes images.
    """

    def __init__(self) -> None:
        super().__init__()
        self._scores: dict[str, list[float]] = defaultdict(list)
        self._labels: list[int] = []

    def on_validation_epoch_start(self, *_: Any) -> None:
        """Forgets the scores of the last epoch."""
        self._scores.clear()
        self._labels.clear()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # an ImageBatch
        *_: Any,
    ) -> None:
        """Collects the raw scores of a batch."""
        if not _due(trainer, pl_module):
            return
        count = len(outputs.pred_score)
        self._labels += [-1] * count if outputs.gt_label is None else [int(label) for label in outputs.gt_label]
        for name, values in getattr(outputs, "scores", {}).items():
            self._scores[name] += values.float().tolist()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws and sends the histograms."""
        if not _due(trainer, pl_module):
            return
        labels = np.array(self._labels)
        for name, values in self._scores.items():
            log_picture(pl_module, f"scores_{name}", draw_histogram(name, np.array(values), labels))


def _due(trainer: Trainer, module: LightningModule) -> bool:
    """Whether this epoch is one whose pictures are logged."""
    return not trainer.sanity_checking and trainer.current_epoch % PICTURE_EPOCHS == 0 and takes_pictures(module)


def draw_histogram(name: str, values: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Draws how often a score takes which value, for each label.

    Args:
        name: Name of the score.
        values: Scores, ``(N,)``; those that are not finite are left out and counted in the title.
        labels: 0 normal, 1 abnormal, -1 unknown, ``(N,)``.

    Returns:
        The picture, ``(H, W, 3)`` in [0, 1].
    """
    finite = np.isfinite(values)
    figure = Figure(figsize=(5, 3), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if finite.any():
        edges = np.histogram_bin_edges(values[finite], BINS)
        for label in np.unique(labels):
            chosen = values[finite & (labels == label)]
            axes.hist(chosen, list(edges), alpha=0.6, label=f"{KINDS[int(label)]} ({len(chosen)})")
        axes.legend()
    missing = int((~finite).sum())
    axes.set_title(f"{name}, {missing} not finite" if missing else name)
    axes.set_xlabel("score")
    axes.set_ylabel("validation images")
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib's canvas has no types
    drawn = np.asarray(canvas.buffer_rgba(), dtype=np.float32)  # type: ignore[no-untyped-call]  # as above
    return drawn[..., :3] / np.float32(255)
