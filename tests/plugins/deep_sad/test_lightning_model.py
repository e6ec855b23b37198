from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.engine import Engine

from anomalib_xray.data import Radiographs
from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png
from anomalib_xray.training.callbacks import CollapseMonitor
from anomalib_xray_plugins.deep_sad import DeepSad
from anomalib_xray_plugins.deep_sad.lightning_model import EPSILON, sad_loss
from anomalib_xray_plugins.deep_svdd import DeepSvdd

SMALL: dict[str, Any] = {"image_size": 64, "width": 4, "code_size": 8, "learning_rate": 1e-3, "augmentation": None}


def published_loss(distance: np.ndarray, semi_targets: np.ndarray, eta: float) -> float:
    """Equation 8: 0 for an unlabelled image, -1 for a labelled abnormal one, mean over all of a data set."""
    terms = [
        value if target == 0 else eta * (value + 1e-6) ** target
        for value, target in zip(distance.tolist(), semi_targets.tolist(), strict=True)
    ]
    return sum(terms) / len(terms)


@pytest.mark.parametrize("eta", [0.5, 1.0, 20.0])
def test_loss_of_a_whole_data_set_is_the_published_one(eta: float) -> None:
    distance = np.random.default_rng(0).uniform(0.01, 4, 30)
    targets = np.zeros(30)
    targets[:6] = -1
    found = sad_loss(torch.from_numpy(distance[6:]), torch.from_numpy(distance[:6]), eta, 6 / 30)
    np.testing.assert_allclose(found.item(), published_loss(distance, targets, eta))


def test_loss_of_batches_is_in_the_mean_that_of_the_data_set() -> None:
    distance = torch.rand(24, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.1
    normal, labelled = distance[:20], distance[20:]
    batches = [sad_loss(one, labelled[[number]], 3.0, 4 / 24) for one in normal.split(5) for number in range(4)]
    torch.testing.assert_close(torch.stack(batches).mean(), sad_loss(normal, labelled, 3.0, 4 / 24))


def test_labelled_images_are_driven_away_and_normal_ones_in() -> None:
    normal = torch.tensor([2.0], requires_grad=True)
    labelled = torch.tensor([0.5], requires_grad=True)
    sad_loss(normal, labelled, 2.0, 0.25).backward()
    assert normal.grad is not None
    assert labelled.grad is not None
    assert normal.grad.item() == pytest.approx(0.75)
    assert labelled.grad.item() == pytest.approx(-0.25 * 2 / (0.5 + EPSILON) ** 2)


def test_loss_without_labelled_images_is_that_of_a_hard_boundary() -> None:
    distance = torch.rand(5)
    assert torch.equal(sad_loss(distance, distance[:0], 7.0, 0.0), distance.mean())


def test_weight_of_labelled_images_is_above_0() -> None:
    with pytest.raises(XrayError, match="eta is 0"):
        DeepSad(**SMALL, eta=0.0)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Grey squares of patients, the abnormal ones striped."""
    rows = ["image_path,label,patient,split"]
    random = np.random.default_rng(0)
    for number, split in enumerate(["train"] * 6 + ["val"] * 6 + ["test"] * 4):
        abnormal = split != "train" and number % 2
        picture = random.integers(100, 140, (64, 64)).astype(np.uint8)
        if abnormal:
            picture[::8] = 250
        write_png(tmp_path / f"{number}.png", picture)
        rows.append(f"{number}.png,{int(abnormal)},p{number},{split}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    return tmp_path / "table.csv"


def trained(model: Any, table: Path, folder: Path, share: float, epochs: int = 12) -> Any:
    data = Radiographs(
        table, train_batch_size=3, eval_batch_size=8, num_workers=0, labelled_abnormal=share, cache_gib=0
    )
    engine = Engine(
        max_epochs=epochs, default_root_dir=folder, logger=False, accelerator="cpu", enable_progress_bar=False
    )
    engine.fit(model, datamodule=data)
    return engine.trainer.callback_metrics


def test_labelled_images_end_further_from_the_centre(table: Path, tmp_path: Path) -> None:
    settings = {**SMALL, "learning_rate": 3e-3}
    metrics = trained(DeepSad(**settings, eta=5.0), table, tmp_path / "a", share=0.4)
    assert metrics["train_labelled_distance"] > 2 * metrics["train_distance"]


def test_a_seed_repeats_a_training(table: Path, tmp_path: Path) -> None:
    first, second = DeepSad(**SMALL), DeepSad(**SMALL)
    for number, model in enumerate((first, second)):
        trained(model, table, tmp_path / str(number), share=0.4, epochs=2)
    for name, value in first.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_without_labelled_images_it_says_so_and_is_deep_svdd(
    table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sad, svdd = DeepSad(**SMALL), DeepSvdd(**SMALL)
    trained(sad, table, tmp_path / "sad", share=0.0, epochs=2)
    assert "no labelled abnormal images, so that this is DeepSvdd" in caplog.text
    trained(svdd, table, tmp_path / "svdd", share=0.0, epochs=2)
    for name, value in sad.model.state_dict().items():
        assert torch.equal(value, svdd.model.state_dict()[name]), name


def test_its_use_of_labels_is_declared_and_its_collapse_is_watched() -> None:
    model = DeepSad(**SMALL)
    assert (model.uses_labels, DeepSvdd(**SMALL).uses_labels) == (True, False)
    assert any(isinstance(callback, CollapseMonitor) for callback in model.configure_callbacks())
