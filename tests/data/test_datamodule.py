from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import pytest
import torch
from anomalib.data import AnomalibDataModule, ImageBatch
from anomalib.data.transforms import SquarePad as AnomalibSquarePad
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Compose, Normalize, RandomHorizontalFlip, RandomVerticalFlip, Resize

from anomalib_xray.data import Radiographs
from anomalib_xray.data.datamodule import DEFAULT_IMAGE_SIZE, EpochSampler, use_one_opencv_thread
from anomalib_xray.errors import XrayError
from anomalib_xray.transforms import PadResize, SquarePad, XrayPreProcessor

from .conftest import WritePicture


@pytest.fixture
def table(tmp_path: Path, write_picture: WritePicture) -> Path:
    """Upright and lying images of several sizes; the first row of each is background."""
    rows = ["image_path,label,patient,split"]
    for number, split in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 2):
        write_picture(tmp_path / f"{number}.png", height=20 + 3 * number, width=40 - 5 * number)
        rows.append(f"{number}.png,{number % 2 if split != 'train' else 0},{number},{split}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    return tmp_path / "table.csv"


def set_up(datamodule: Radiographs, model: Any = None) -> Radiographs:
    if model is not None:
        datamodule.trainer = SimpleNamespace(lightning_module=model)  # type: ignore[assignment]  # all it reads of one
    datamodule.setup()
    return datamodule


def steps(datamodule: Radiographs, split: str) -> list[nn.Module]:
    return list(getattr(datamodule, f"{split}_data").augmentations.transforms)


def our_model(**attributes: Any) -> SimpleNamespace:
    return SimpleNamespace(pre_processor=XrayPreProcessor(image_size=24), **attributes)


def foreign_model() -> SimpleNamespace:
    transform = Compose([Resize((16, 16)), Normalize([0.5] * 3, [0.5] * 3)])
    return SimpleNamespace(pre_processor=PreProcessor(transform=transform))


def test_anomalib_still_has_the_private_names_that_are_overridden() -> None:
    for name in (
        "_setup",
        "_create_test_split",
        "_create_val_split",
        "_update_augmentations",
        "_update_subset_augmentations",
    ):
        assert callable(getattr(AnomalibDataModule, name, None)), f"AnomalibDataModule.{name} is gone"
    bare = Radiographs("table.csv")
    assert bare._samples is None
    assert bare._is_setup is False
    assert bare.external_collate_fn is None


def test_splits_are_the_tables_and_nothing_is_moved_between_them(table: Path) -> None:
    datamodule = set_up(Radiographs(table))
    assert [len(datamodule.train_data), len(datamodule.val_data), len(datamodule.test_data)] == [4, 2, 2]
    assert datamodule.test_data.has_normal
    assert datamodule.test_data.has_anomalous


@pytest.mark.parametrize("setting", [{"train_batch_size": 0}, {"eval_batch_size": -1}, {"num_workers": -1}])
def test_a_number_that_reads_nothing_is_refused(table: Path, setting: dict[str, int]) -> None:
    ((name, value),) = setting.items()
    with pytest.raises(XrayError, match=f"{name} is {value}; it must be at least"):
        Radiographs(table=table, **setting)  # type: ignore[arg-type]


def test_without_a_model_images_become_squares_of_the_given_or_the_default_size(table: Path) -> None:
    assert set_up(Radiographs(table)).train_data[0].image.shape == (3, DEFAULT_IMAGE_SIZE, DEFAULT_IMAGE_SIZE)
    assert set_up(Radiographs(table, image_size=32)).val_data[0].image.shape == (3, 32, 32)


def test_our_models_geometry_wins_and_their_augmentation_is_for_training(table: Path) -> None:
    flip = RandomHorizontalFlip()
    model = our_model(train_augmentation=flip)
    datamodule = set_up(Radiographs(table, image_size=99), model)
    assert steps(datamodule, "train") == [flip, model.pre_processor.geometry]
    for split in ("val", "test"):
        assert steps(datamodule, split) == [model.pre_processor.geometry]


def test_the_users_augmentation_replaces_the_models(table: Path) -> None:
    mine = RandomVerticalFlip()
    model = our_model(train_augmentation=RandomHorizontalFlip())
    datamodule = set_up(Radiographs(table, train_augmentations=mine), model)
    assert steps(datamodule, "train")[0] is mine
    no_augmentation = set_up(Radiographs(table), our_model(train_augmentation=None))
    assert len(steps(no_augmentation, "train")) == 1


def test_a_foreign_models_resize_comes_after_padding_to_a_square(table: Path) -> None:
    mine = RandomVerticalFlip()
    datamodule = set_up(Radiographs(table, train_augmentations=mine), foreign_model())
    pad, flip, resize = steps(datamodule, "train")
    assert isinstance(pad, SquarePad)
    assert flip is mine
    assert isinstance(resize, Resize)
    image = datamodule.val_data[0].image  # 32 x 20 pixels: 6 columns of padding on either side, squeezed to 16 pixels
    assert image.shape == (3, 16, 16)
    assert not image[..., :2].any()
    assert image[:, 8, 8].all()


def test_a_foreign_model_with_an_image_size_gets_that_geometry_first(table: Path) -> None:
    datamodule = set_up(Radiographs(table, image_size=32), foreign_model())
    geometry, resize = steps(datamodule, "test")
    assert isinstance(geometry, PadResize)
    assert isinstance(resize, Resize)


@pytest.mark.parametrize("pre_processor", [None, PreProcessor(), PreProcessor(AnomalibSquarePad())])
def test_a_foreign_model_without_resize_gets_squares(table: Path, pre_processor: PreProcessor | None) -> None:
    datamodule = set_up(Radiographs(table), SimpleNamespace(pre_processor=pre_processor))
    assert datamodule.train_data[1].image.shape == (3, 35, 35)


def test_a_second_setup_with_another_model_takes_its_geometry(table: Path) -> None:
    datamodule = set_up(Radiographs(table), foreign_model())
    set_up(datamodule, our_model())
    assert datamodule.test_data[0].image.shape == (3, 24, 24)


def test_batches_of_mixed_sizes_keep_aspect_and_background(table: Path) -> None:
    datamodule = set_up(Radiographs(table, train_batch_size=4, image_size=64, num_workers=1))
    (batch,) = datamodule.train_dataloader()
    assert isinstance(batch, ImageBatch)
    assert batch.image.shape == (4, 3, 64, 64)
    assert batch.gt_label.tolist() == [False] * 4
    for image, path in zip(batch.image, batch.image_path, strict=True):
        height, width = cv2.imread(path).shape[:2]
        filled = image[0] > 0
        assert image[0][filled].min() >= 1 / 255
        columns, rows = filled.any(0).sum().item(), filled.any(1).sum().item()
        assert columns == pytest.approx(64 * width / max(height, width), abs=4)  # resampling blurs the rim
        assert rows == pytest.approx(64 * (height - 1) / max(height, width), abs=4)  # resampling blurs the rim


def test_only_training_batches_are_shuffled(table: Path) -> None:
    datamodule = set_up(Radiographs(table, train_batch_size=1, eval_batch_size=1, num_workers=0, image_size=8))
    torch.manual_seed(0)
    orders = {tuple(batch.image_path[0] for batch in datamodule.train_dataloader()) for _ in range(10)}
    assert len(orders) > 1
    for split in ("val", "test"):
        paths = [batch.image_path[0] for batch in getattr(datamodule, f"{split}_dataloader")()]
        assert paths == list(getattr(datamodule, f"{split}_data").samples["image_path"])


def test_reading_processes_use_one_opencv_thread(table: Path) -> None:
    assert set_up(Radiographs(table)).train_dataloader().worker_init_fn is use_one_opencv_thread
    threads = cv2.getNumThreads()
    try:
        use_one_opencv_thread(0)
        assert cv2.getNumThreads() <= 1
    finally:
        cv2.setNumThreads(threads)


class OneWeight(LightningModule):
    """The smallest model that a trainer accepts."""

    def __init__(self) -> None:
        super().__init__()
        self.pre_processor = XrayPreProcessor(image_size=24)
        self.weight = nn.Parameter(torch.zeros(()))
        self.shapes: list[torch.Size] = []

    def training_step(self, batch: ImageBatch) -> torch.Tensor:
        self.shapes.append(batch.image.shape)
        return self.weight * batch.image.mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_real_trainer_hands_over_its_model(table: Path, tmp_path: Path) -> None:
    model = OneWeight()
    trainer = Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        default_root_dir=tmp_path,
    )
    datamodule = Radiographs(table, train_batch_size=2, num_workers=0)
    trainer.fit(model, datamodule=datamodule)
    assert model.shapes == [torch.Size([2, 3, 24, 24])] * 2
    assert datamodule._is_setup


def batches(sampler: EpochSampler) -> tuple[list[int], float]:
    """Order of an epoch, and a random number drawn while it runs."""
    loader = DataLoader(range(20), batch_size=None, sampler=sampler, generator=sampler.source)
    return list(loader), float(torch.rand(()))


def epochs(count: int, seed: int) -> list[tuple[list[int], float]]:
    sampler = EpochSampler(range(20), seed)
    found = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        found.append(batches(sampler))
    return found


def test_every_epoch_has_an_order_and_a_chance_of_its_own() -> None:
    found = epochs(3, seed=1)
    assert len({tuple(order) for order, _ in found}) == 3
    assert len({number for _, number in found}) == 3
    assert all(sorted(order) == list(range(20)) for order, _ in found)


def test_a_seed_repeats_and_another_does_not() -> None:
    assert epochs(2, seed=1) == epochs(2, seed=1)
    assert epochs(1, seed=1) != epochs(1, seed=9)


def test_a_resumed_training_goes_on_as_if_it_had_never_stopped() -> None:
    torch.manual_seed(1)  # what building the model again does
    resumed = EpochSampler(range(20), seed=1, epoch=2)
    assert batches(resumed) == epochs(3, seed=1)[2]


def test_being_told_the_epoch_twice_changes_nothing() -> None:
    sampler = EpochSampler(range(20), seed=1, epoch=2)
    torch.rand(())  # the first batch was already fetched
    state = torch.get_rng_state()
    sampler.set_epoch(2)
    assert torch.equal(torch.get_rng_state(), state)


def test_labelled_abnormal_images_are_a_set_of_their_own(tmp_path: Path, write_picture: WritePicture) -> None:
    rows = ["image_path,label,patient,split"]
    for number, split in enumerate(["train"] * 4 + ["val"] * 4 + ["test"] * 4):
        write_picture(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{0 if split == 'train' else number % 2},{number},{split}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    plain = set_up(Radiographs(tmp_path / "table.csv"), our_model())
    few = set_up(Radiographs(tmp_path / "table.csv", labelled_abnormal=0.25), our_model(train_augmentation=None))
    assert plain.labelled_data is None
    assert few.labelled_data is not None
    assert [int(item.gt_label) for item in few.labelled_data] == [1]  # type: ignore[attr-defined,arg-type]  # items have labels
    assert few.labelled_data[0].image.shape == (3, 24, 24)
    assert [len(data) for data in (few.train_data, few.val_data, few.test_data)] == [4, 3, 4]
    assert few.test_data.samples.equals(plain.test_data.samples)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_labelled_share_out_of_range_is_refused(table: Path, share: float) -> None:
    with pytest.raises(XrayError, match="labelled_abnormal is"):
        Radiographs(table, labelled_abnormal=share)
