from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from anomalib import LearningType
from anomalib.data import ImageBatch, ImageItem
from anomalib.models import AnomalibModule
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import Compose

from anomalib_xray.errors import XrayError
from anomalib_xray.scores import ScoredBatch
from anomalib_xray.training import radiograph_model as module_under_test
from anomalib_xray.training.callbacks import TrainingEnd
from anomalib_xray.training.pictures import AlignedVisualizer
from anomalib_xray.training.post_processor import XrayPostProcessor
from anomalib_xray.training.radiograph_model import RadiographModel
from anomalib_xray.training.score_table import ScoreTable
from anomalib_xray.transforms import Augmentation, PadResize, XrayPreProcessor

PAGES = 16384
KEPT = f"""
import resource
import torch
from anomalib_xray.freed_memory import keep_freed_memory

def new_pages():
    # Pages that the system has to bring for a tensor where a larger one was just freed: one of the same size may not
    # fit between what was allocated meanwhile.
    torch.zeros({2 * PAGES}, 1024)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros({PAGES}, 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory(True)
kept = new_pages()
keep_freed_memory(False)
print(kept, new_pages())
"""
"""Pages of 4 KiB of a tensor too large for the allocator to keep."""


class Brightness(nn.Module):
    """Scores by mean and by maximum; its map is the image."""

    def forward(self, batch: Tensor) -> ScoredBatch:
        grey = batch[:, 0]
        return ScoredBatch.of({"mean": grey.mean((1, 2)), "max": grey.amax((1, 2))}, "mean", grey)


class BrightnessModel(RadiographModel, AnomalibModule):
    scores = ("mean", "max")

    def __init__(self, image_size: int = 64, score: str = "mean", **settings: Any) -> None:
        super().__init__(image_size=image_size, score=score, **settings)
        self.weights = torch.rand(4)
        self.model = Brightness()

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:
        return torch.as_tensor(batch.image).mean()


def batch_of(count: int = 2) -> ImageBatch:
    return ImageBatch(image=torch.rand(count, 3, 64, 64), gt_label=torch.zeros(count, dtype=torch.long))


@pytest.mark.parametrize("size", [32, 63, 96, 1024])
def test_a_size_that_no_model_has_is_refused(size: int) -> None:
    with pytest.raises(XrayError, match=f"image_size is {size}, .*64, 128, 256 or 512"):
        BrightnessModel(image_size=size)


def test_an_unknown_score_is_refused_with_the_known_ones() -> None:
    with pytest.raises(XrayError, match="score is 'mse', but BrightnessModel computes mean, max"):
        BrightnessModel(score="mse")


def test_the_seed_decides_the_weights() -> None:
    assert torch.equal(BrightnessModel(seed=3).weights, BrightnessModel(seed=3).weights)
    assert not torch.equal(BrightnessModel(seed=3).weights, BrightnessModel(seed=4).weights)
    assert not torch.equal(BrightnessModel(seed=None).weights, BrightnessModel(seed=None).weights)


def test_brings_this_packages_parts() -> None:
    model = BrightnessModel(image_size=128, equalize=True)
    assert isinstance(model.pre_processor, XrayPreProcessor)
    assert model.pre_processor.checkpoint_config() == {"image_size": 128, "equalize": True, "padding": "centred"}
    assert isinstance(model.post_processor, XrayPostProcessor)
    assert isinstance(model.visualizer, AlignedVisualizer)
    assert model.learning_type is LearningType.ONE_CLASS
    assert model.trainer_arguments == {}


def test_the_score_table_sees_scores_before_the_post_processor() -> None:
    kinds = [type(callback) for callback in BrightnessModel().configure_callbacks()]
    assert kinds.index(ScoreTable) < kinds.index(XrayPostProcessor)


def test_every_training_says_when_it_will_end() -> None:
    assert any(isinstance(callback, TrainingEnd) for callback in BrightnessModel().configure_callbacks())


def test_augmentation_is_offered_by_name() -> None:
    assert BrightnessModel(augmentation=None).train_augmentation is None
    assert isinstance(BrightnessModel(augmentation="default").train_augmentation, Augmentation)


@pytest.mark.parametrize("stage", ["validation", "test", "predict"])
def test_steps_score_the_batch_in_place(stage: str) -> None:
    model, batch = BrightnessModel().eval(), batch_of()
    returned = getattr(model, f"{stage}_step")(batch, 1)
    assert returned is batch
    image = torch.as_tensor(batch.image)[:, 0]
    torch.testing.assert_close(batch.pred_score, image.mean((1, 2)))
    torch.testing.assert_close(torch.as_tensor(batch.anomaly_map), image)
    torch.testing.assert_close(batch.scores["max"], image.amax((1, 2)))


def test_forward_pads_scores_and_leaves_raw_without_validation() -> None:
    model, images = BrightnessModel().eval(), torch.rand(2, 3, 40, 80)
    output = model(images)
    prepared = model.pre_processor(images)[:, 0]
    torch.testing.assert_close(output.pred_score, prepared.mean((1, 2)))
    torch.testing.assert_close(output.anomaly_map, prepared)
    assert output._fields == ("pred_score", "pred_label", "anomaly_map", "pred_mask")


def test_forward_without_pre_and_post_processor_is_the_network_alone() -> None:
    model, images = BrightnessModel(pre_processor=False, post_processor=False).eval(), torch.rand(2, 3, 64, 64)
    output = model(images)
    torch.testing.assert_close(output.pred_score, images[:, 0].mean((1, 2)))
    assert output.pred_label is None


@pytest.mark.parametrize(
    ("epoch", "index", "takes", "logged"),
    [(0, 0, True, True), (10, 0, True, True), (3, 0, True, False), (0, 1, True, False), (0, 0, False, False)],
)
def test_pictures_of_the_first_batch_of_every_tenth_epoch(
    epoch: int, index: int, takes: bool, logged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[dict[str, Tensor]] = []
    monkeypatch.setattr(module_under_test, "log_pictures", lambda _, pictures: sent.append(pictures))
    monkeypatch.setattr(module_under_test, "takes_pictures", lambda _: takes)
    monkeypatch.setattr(BrightnessModel, "current_epoch", epoch)
    monkeypatch.setattr(BrightnessModel, "pictures", lambda _, batch: {"first": batch})
    BrightnessModel().eval().validation_step(batch_of(12), index)
    assert [pictures["first"].shape for pictures in sent] == [(8, 1, 64, 64)] * logged


def test_images_stand_above_their_reconstructions() -> None:
    image, reconstruction = torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4)
    rows = RadiographModel.reconstruction_rows(image, reconstruction)["reconstructions"]
    assert torch.equal(rows[:2], image)
    assert torch.equal(rows[2:], reconstruction)


def test_losses_are_logged_by_epoch_and_the_first_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[str, SimpleNamespace] = {}
    model = BrightnessModel()
    monkeypatch.setattr(
        model, "log", lambda name, value, **settings: logged.update({name: SimpleNamespace(value=value, **settings)})
    )
    loss = torch.tensor(2.0, requires_grad=True) * 1
    model.log_losses({"loss": loss, "other": loss * 2}, batch_size=3)
    model.log_noted_losses()
    assert {name: float(entry.value) for name, entry in logged.items()} == {"train_loss": 2, "train_other": 4}
    assert [entry.prog_bar for entry in logged.values()] == [True, False]
    assert all(entry.on_epoch and not entry.on_step and not entry.value.requires_grad for entry in logged.values())


def trainer_in(folder: Path, **settings: Any) -> Trainer:
    """A trainer of one epoch that writes nothing."""
    return Trainer(
        max_epochs=1,
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


class LosingModel(BrightnessModel):
    """Its loss is the number of images of a batch."""

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:
        count = len(torch.as_tensor(batch.image))
        self.log_losses({"loss": torch.tensor(float(count))}, count)
        return self.factor.sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([self.factor], 0.1)


@pytest.mark.parametrize(("steps", "mean"), [(-1, (10 * 10 + 10 * 10 + 4 * 4) / 24), (2, 10)])
def test_a_logged_loss_is_the_mean_over_the_images_of_an_epoch_or_its_part(
    steps: int, mean: float, tmp_path: Path
) -> None:
    model = LosingModel()
    model.factor = nn.Parameter(torch.ones(1))
    trainer = trainer_in(tmp_path, max_steps=steps)
    trainer.fit(model, DataLoader(Hands(), 10, collate_fn=collate))
    assert float(trainer.callback_metrics["train_loss"]) == pytest.approx(mean)


class Hands(Dataset[ImageItem]):
    """One picture many times, as a dataset of anomalib with an augmentation has it."""

    augmentations = Compose([Augmentation("advanced")])

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> ImageItem:
        picture = torch.linspace(0.1, 0.6, 64 * 64).reshape(1, 64, 64).repeat(3, 1, 1)
        picture[:, :, :8] = 0
        return ImageItem(image=self.augmentations(picture))


def collate(items: list[ImageItem]) -> ImageBatch:
    images = [torch.as_tensor(item.image) for item in items]
    return ImageBatch(image=torch.stack([PadResize(64)(image) for image in images]))


class WatchingModel(BrightnessModel):
    """Keeps the brightest value of every training image."""

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:
        self.brightest = torch.cat([self.brightest, torch.as_tensor(batch.image).amax((1, 2, 3))])
        return self.factor.sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([self.factor], 0.1)


@pytest.mark.parametrize("equalize", [False, True])
def test_the_brightness_of_training_images_survives_equalisation_and_scaling(equalize: bool, tmp_path: Path) -> None:
    model = WatchingModel(equalize=equalize, augmentation="advanced")
    model.brightest, model.factor = torch.empty(0), nn.Parameter(torch.ones(1))
    trainer = trainer_in(tmp_path)
    trainer.fit(model, DataLoader(Hands(), 8, collate_fn=collate))
    assert len(model.brightest) == 24
    assert model.brightest.min() < 0.95
    assert model.brightest.max() == 1
    assert len(model.brightest.unique()) > 4


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_a_training_keeps_freed_memory_for_its_next_tensors() -> None:
    # In a process of its own: what others left in the heap decides where a tensor goes.
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, timeout=300, check=True)
    kept, handed_back = map(int, done.stdout.split()[-2:])
    assert kept < PAGES / 100
    assert handed_back > kept  # in large pages they are few
