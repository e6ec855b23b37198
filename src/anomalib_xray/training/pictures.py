"""Pictures of a run: grids and histograms in the experiment's logger, heat maps in the run's folder."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.data import ImageBatch
from anomalib.visualization import ImageVisualizer
from anomalib.visualization.image.item_visualizer import visualize_image_item
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torchvision.utils import make_grid

from anomalib_xray.io.paths import absolute, free_path

PICTURES_IN_A_ROW = 8

PICTURE_EPOCHS = 10
"""Pictures are logged every this many epochs."""

BINS = 30

LABELS = {0: "normal", 1: "abnormal", -1: "not labelled"}


def log_pictures(module: LightningModule, pictures: Mapping[str, Tensor]) -> None:
    """Sends grids of pictures, each ``(N, 1, H, W)`` in [0, 1], to every logger that takes images.

    anomalib's TensorBoard, MLflow, W&B and Comet do.
    """
    for name, images in pictures.items():
        grid = make_grid(images.detach().float().cpu().clamp(0, 1), nrow=PICTURES_IN_A_ROW)
        log_picture(module, name, grid.permute(1, 2, 0).numpy())


def log_picture(module: LightningModule, name: str, picture: NDArray[np.float32]) -> None:
    """Sends one picture ``(H, W, 3)`` in [0, 1] to every logger that takes images."""
    for logger in module.loggers:
        send_picture(logger, name, picture, module.global_step)


def send_picture(logger: object, name: str, picture: NDArray[np.float32], step: int = 0) -> None:
    """Sends one picture ``(H, W, 3)`` in [0, 1] to a logger, if it takes images."""
    add_image = getattr(logger, "add_image", None)
    if add_image is not None:
        # MLflow keeps files, which need an ending and a name of their own.
        mlflow = "MLFlow" in type(logger).__name__
        add_image(picture, name=f"{name}/{step:08d}.png" if mlflow else name, global_step=step)


def takes_pictures(module: LightningModule) -> bool:
    """Whether any logger of the run takes images."""
    return any(hasattr(logger, "add_image") for logger in module.loggers)


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

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
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
    """Draws the distribution of a score ``(N,)`` for each label, 0 normal, 1 abnormal, -1 unknown.

    Scores that are not finite are left out and counted in the title.

    Returns:
        The picture, ``(H, W, 3)`` in [0, 1].
    """
    finite = np.isfinite(values)
    figure = Figure(figsize=(5, 3), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    if finite.any():
        edges = np.histogram_bin_edges(values[finite], BINS)
        for label in np.unique(labels):
            chosen = values[finite & (labels == label)]
            axes.hist(chosen, list(edges), alpha=0.6, label=f"{LABELS[int(label)]} ({len(chosen)})")
        axes.legend()
    missing = int((~finite).sum())
    axes.set_title(f"{name}, {missing} not finite" if missing else name)
    axes.set_xlabel("score")
    axes.set_ylabel("validation images")
    return rendered(figure)


def rendered(figure: Figure) -> NDArray[np.float32]:
    """Draws a figure of matplotlib as a picture ``(H, W, 3)`` in [0, 1]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib's canvas has no types
    drawn = np.asarray(canvas.buffer_rgba(), dtype=np.float32)  # type: ignore[no-untyped-call]  # as above
    return drawn[..., :3] / np.float32(255)


class AlignedVisualizer(ImageVisualizer):
    """Draws the pre-processed image under its map, and keeps the folders of patients and studies.

    anomalib's visualizer reads the file again and lays the map, which was computed on the padded square, over the
    unpadded picture; and it keeps one folder of the path only, so that ``study1_positive/image1.png`` of all patients
    are one file. Takes the same arguments.
    """

    _folder: Path | None = None
    """Folder that is drawn into, of which the next two tell what is in it already."""
    _paths: dict[Path, Path]
    _taken: set[str]

    def on_test_batch_end(  # type: ignore[override]  # the base class names its unused arguments
        self, trainer: Trainer, _module: LightningModule, _outputs: ImageBatch, batch: ImageBatch, *_: Any
    ) -> None:
        """Draws the images of a batch into ``images/`` of the run."""
        folder = Path(self.output_dir or Path(trainer.default_root_dir) / "images")
        roots = _roots(trainer)
        for item in batch:
            picture = visualize_image_item(
                # Without a path, the image itself is drawn.
                replace(item, image_path=None, anomaly_map=_from_zero(item.anomaly_map)),
                fields=self.fields,
                overlay_fields=self.overlay_fields,
                field_size=self.field_size,
                fields_config=self.fields_config,
                overlay_fields_config=self.overlay_fields_config,
                text_config=self.text_config,
            )
            if picture is not None:
                path = self._path(folder, Path(item.image_path or "image.png"), roots)
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path)

    on_predict_batch_end = on_test_batch_end  # type: ignore[assignment]  # as above

    def _path(self, folder: Path, image: Path, roots: Sequence[Path]) -> Path:
        """The file of an image's drawing: always the same one in a folder, and no other image's."""
        if self._folder != folder:
            self._folder, self._paths, self._taken = folder, {}, set()
        if image not in self._paths:
            self._paths[image] = free_path(folder / _below(image, roots), ".png", self._taken)
        return self._paths[image]


def _from_zero(anomaly_map: Tensor | None) -> Tensor | None:
    """A normalised map (H, W) whose background, where the raw anomaly is 0, is drawn without a tint."""
    if anomaly_map is None:
        return None
    low = anomaly_map.min()
    return (anomaly_map - low) / (1 - low).clamp(min=torch.finfo(anomaly_map.dtype).eps)


def _roots(trainer: Trainer) -> list[Path]:
    """Folders that the run's images stand in: the data set's, prepared or not, or what a prediction was given."""
    datamodule = getattr(trainer, "datamodule", None)
    roots = [Path(root) for name in ("prepared_root", "root") if (root := getattr(datamodule, name, None))]
    loaders = trainer.predict_dataloaders
    for loader in loaders if isinstance(loaders, list) else [loaders]:
        files = getattr(getattr(loader, "dataset", None), "image_filenames", [])
        roots += [Path(os.path.commonpath([absolute(file).parent for file in files]))] if files else []
    return [absolute(root) for root in roots]


def _below(path: Path, roots: Sequence[Path]) -> Path:
    """The path below the first root that holds it; all of it below none, so that no two images share a name."""
    path = absolute(path)
    root = next((root for root in roots if path.is_relative_to(root)), Path(path.anchor))
    return path.relative_to(root)
