from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch, PredictDataset
from PIL import Image
from torch.utils.data import DataLoader

from anomalib_xray.training.pictures import AlignedVisualizer

FIELD = 64
"""Side of the drawn fields here."""


def visualizer(**arguments: Any) -> AlignedVisualizer:
    return AlignedVisualizer(field_size=(FIELD, FIELD), fields=["image"], overlay_fields=[], **arguments)


def batch_of(paths: list[Path], image: torch.Tensor | None = None) -> ImageBatch:
    image = torch.rand(3, 32, 32) if image is None else image
    return ImageBatch(
        image=image.expand(len(paths), *image.shape).clone(),
        image_path=[str(path) for path in paths],
        pred_score=torch.full((len(paths),), 0.5),
        anomaly_map=torch.rand(len(paths), 32, 32),
    )


def draw(batch: ImageBatch, run: Path, drawer: AlignedVisualizer | None = None, **trainer: Any) -> list[str]:
    """Draws a batch and lists what stands in ``images/``."""
    fake: Any = SimpleNamespace(
        **{"default_root_dir": str(run), "datamodule": None, "predict_dataloaders": None} | trainer
    )
    module: Any = None
    (drawer or visualizer()).on_test_batch_end(fake, module, batch, batch, 0)
    return sorted(path.relative_to(run / "images").as_posix() for path in (run / "images").rglob("*.png"))


NAMES = ["XR_HAND/patient1/study1/image1.png", "XR_HAND/patient2/study1/image1.png"]


@pytest.mark.parametrize("attribute", ["root", "prepared_root"])
def test_names_keep_the_folders_of_the_data_set(tmp_path: Path, attribute: str) -> None:
    roots: dict[str, Any] = {"root": tmp_path / "raw", "prepared_root": None} | {attribute: tmp_path / "data"}
    batch = batch_of([tmp_path / "data" / name for name in NAMES])
    assert draw(batch, tmp_path / "run", datamodule=SimpleNamespace(**roots)) == NAMES


def test_a_relative_root_is_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    batch = batch_of([tmp_path / "data" / name for name in NAMES])
    assert draw(batch, tmp_path / "run", datamodule=SimpleNamespace(root="data")) == NAMES


def test_images_elsewhere_keep_all_of_their_path(tmp_path: Path) -> None:
    batch = batch_of([tmp_path / "elsewhere" / name for name in NAMES])
    expected = [(tmp_path / "elsewhere" / name).relative_to("/").as_posix() for name in NAMES]
    assert draw(batch, tmp_path / "run", datamodule=SimpleNamespace(root=tmp_path / "data")) == expected
    assert draw(batch, tmp_path / "run") == expected


@pytest.mark.parametrize("datamodule", [None, SimpleNamespace(root="/somewhere/else")])
def test_names_keep_the_folders_of_a_prediction(tmp_path: Path, datamodule: Any) -> None:
    paths = [tmp_path / "new" / name for name in NAMES]
    for path in paths:
        path.parent.mkdir(parents=True)
        Image.new("L", (8, 8)).save(path)
    loaders = [DataLoader(PredictDataset(tmp_path / "new"))]
    drawn = draw(batch_of(paths), tmp_path / "run", datamodule=datamodule, predict_dataloaders=loaders)
    assert drawn == [name.removeprefix("XR_HAND/") for name in NAMES]


def test_a_prediction_of_one_file_is_named_after_it(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "hand.jpg")
    loader = DataLoader(PredictDataset(tmp_path / "hand.jpg"))
    drawn = draw(batch_of([tmp_path / "hand.jpg"]), tmp_path / "run", predict_dataloaders=loader)
    assert drawn == ["hand.png"]


def test_predictions_are_drawn_as_tests_are(tmp_path: Path) -> None:
    trainer: Any = SimpleNamespace(
        default_root_dir=tmp_path, datamodule=SimpleNamespace(root=tmp_path), predict_dataloaders=None
    )
    module: Any = None
    batch = batch_of([tmp_path / "hand.png"])
    visualizer().on_predict_batch_end(trainer, module, batch, batch, 0)
    assert (tmp_path / "images" / "hand.png").is_file()


def test_the_folder_can_be_chosen(tmp_path: Path) -> None:
    drawer = visualizer(output_dir=tmp_path / "chosen")
    draw(batch_of([tmp_path / "hand.png"]), tmp_path / "run", drawer, datamodule=SimpleNamespace(root=tmp_path))
    assert (tmp_path / "chosen" / "hand.png").is_file()
    assert not (tmp_path / "run").exists()


def test_what_the_model_saw_is_drawn_and_not_the_file(tmp_path: Path) -> None:
    # The file is white and wide; the model saw a padded square, white in the middle.
    Image.new("L", (64, 16), 255).save(tmp_path / "hand.png")
    seen = torch.zeros(3, 32, 32)
    seen[:, 12:20] = 1
    draw(batch_of([tmp_path / "hand.png"], seen), tmp_path / "run", datamodule=SimpleNamespace(root=tmp_path))
    picture = np.asarray(Image.open(tmp_path / "run" / "images" / "hand.png").convert("L"))[:, :FIELD]
    assert (picture[27:37, :5] > 250).all()  # beside the caption
    assert (picture[48:] < 5).all()


def test_drawing_leaves_the_batch_as_it_is(tmp_path: Path) -> None:
    batch = batch_of([tmp_path / name for name in NAMES])
    paths = list(batch.image_path or [])
    image = torch.as_tensor(batch.image).clone()
    draw(batch, tmp_path / "run", datamodule=SimpleNamespace(root=tmp_path))
    assert batch.image_path == paths
    assert torch.equal(torch.as_tensor(batch.image), image)


def test_no_image_replaces_the_drawing_of_another(tmp_path: Path) -> None:
    names = ["a", "a.png", "a.jpg", "1.2.840.5", "1.2.840.6", f"{'n' * 250}.png"]
    batch = batch_of([tmp_path / "data" / name for name in names])
    drawer, data = visualizer(), SimpleNamespace(root=tmp_path / "data")
    drawn = draw(batch, tmp_path / "run", drawer, datamodule=data)
    assert {"a.png", "a.png.png", "a.jpg.png", "1.2.840.5.png", "1.2.840.6.png"} < set(drawn)
    assert len(drawn) == len(names)
    assert draw(batch, tmp_path / "run", drawer, datamodule=data) == drawn  # drawn again, each keeps its name
    assert draw(batch, tmp_path / "other", drawer, datamodule=data) == drawn
