"""Pictures whose heat map lies on what the model saw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from anomalib.data import ImageBatch
from anomalib.visualization import ImageVisualizer
from anomalib.visualization.image.item_visualizer import visualize_image_item
from lightning.pytorch import LightningModule, Trainer


class AlignedVisualizer(ImageVisualizer):
    """Draws the pre-processed image under its map, and keeps the folders of patients and studies.

    anomalib's visualizer reads the file again and lays the map, which was computed on the padded square, over the
    unpadded picture; and it keeps one folder of the path only, so that ``study1_positive/image1.png`` of all patients
    are one file. Takes the same arguments.
    """

    def on_test_batch_end(  # type: ignore[override]  # the base class names its unused arguments
        self,
        trainer: Trainer,
        _module: LightningModule,
        _outputs: ImageBatch,
        batch: ImageBatch,
        *_: Any,  # noqa: ANN401
    ) -> None:
        """Draws the images of a batch into ``images/`` of the run."""
        folder = Path(self.output_dir or Path(trainer.default_root_dir) / "images")
        root = _root(trainer)
        for item in batch:
            picture = visualize_image_item(
                replace(item, image_path=None),  # without a path, the image itself is drawn
                fields=self.fields,
                overlay_fields=self.overlay_fields,
                field_size=self.field_size,
                fields_config=self.fields_config,
                overlay_fields_config=self.overlay_fields_config,
                text_config=self.text_config,
            )
            if picture is not None:
                path = folder / _below(Path(item.image_path or "image.png"), root)
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path.with_suffix(".png"))

    def on_predict_batch_end(  # type: ignore[override]  # as above
        self,
        trainer: Trainer,
        module: LightningModule,
        outputs: ImageBatch,
        batch: ImageBatch,
        *_: Any,  # noqa: ANN401
    ) -> None:
        """Draws the images of a batch into ``images/`` of the run."""
        self.on_test_batch_end(trainer, module, outputs, batch)


def _root(trainer: Trainer) -> Path | None:
    """The folder that the run's images stand in: the data set's, or the one that ``anomalib predict`` was given."""
    datamodule = getattr(trainer, "datamodule", None)
    if root := getattr(datamodule, "root", None):
        return Path(root).resolve()
    dataset = getattr(trainer.predict_dataloaders, "dataset", None)
    if path := getattr(dataset, "path", None):
        return Path(path).resolve() if Path(path).is_dir() else Path(path).resolve().parent
    return None


def _below(path: Path, root: Path | None) -> Path:
    """The path below the root, or its last folder and name if it stands elsewhere."""
    resolved = path.resolve()
    if root is not None and resolved.is_relative_to(root):
        return resolved.relative_to(root)
    return Path(resolved.parent.name) / resolved.name
