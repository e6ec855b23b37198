"""Pictures whose heat map lies on what the model saw."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from anomalib.data import ImageBatch
from anomalib.visualization import ImageVisualizer
from anomalib.visualization.image.item_visualizer import visualize_image_item
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from anomalib_xray.io.paths import absolute, free_path


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
        self,
        trainer: Trainer,
        _module: LightningModule,
        _outputs: ImageBatch,
        batch: ImageBatch,
        *_: Any,
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

    def _path(self, folder: Path, image: Path, roots: Sequence[Path]) -> Path:
        """Where the drawing of an image goes: always the same file in a folder, and no other image's."""
        if self._folder != folder:
            self._folder, self._paths, self._taken = folder, {}, set()
        if image not in self._paths:
            self._paths[image] = free_path(folder / _below(image, roots), ".png", self._taken)
        return self._paths[image]

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: ImageBatch,
        batch: ImageBatch,
        *_: Any,
    ) -> None:
        """Draws the images of a batch into ``images/`` of the run."""
        self.on_test_batch_end(trainer, module, outputs, batch)


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
