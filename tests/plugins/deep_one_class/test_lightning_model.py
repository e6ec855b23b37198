from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import timm
import torch
from anomalib.data import ImageBatch
from torch.nn.functional import cross_entropy

from anomalib_xray.errors import XrayError
from anomalib_xray.testing.base import fit, normal_batch
from anomalib_xray.training.callbacks import CollapseMonitor
from anomalib_xray.transforms import Augmentation
from anomalib_xray_plugins.deep_one_class import DeepOneClass
from anomalib_xray_plugins.deep_one_class.lightning_model import compactness, descriptiveness

SMALL: dict[str, Any] = {
    "image_size": 64,
    "augmentation": None,
    "backbone": "test_resnet",
    "backbone_layer": 2,
    "templates": 3,
    "learning_rate": 1e-3,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with pictures of noise in three classes."""
    source = np.random.default_rng(0)
    for number in range(6):
        folder = tmp_path / "reference" / str(number % 3)
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.png"), source.integers(1, 256, (32, 32), dtype=np.uint8))
    return tmp_path / "reference"


@pytest.fixture
def batches() -> list[ImageBatch]:
    torch.manual_seed(0)
    return [normal_batch((torch.rand(4, 1, 64, 64) + 0.01).clamp(max=1).repeat(1, 3, 1, 1)) for _ in range(2)]


def test_reference_pictures_vary_in_brightness_as_the_training_images_do(root: Path) -> None:
    model: Any = DeepOneClass(**SMALL, reference_root=str(root))
    model.setup("fit")
    augmentation = Augmentation([{"class": "HorizontalFlip", "p": 0.0}], brightness=0.5)
    model._trainer = SimpleNamespace(datamodule=SimpleNamespace(train_augmentations=augmentation), global_step=0)
    torch.manual_seed(0)
    pictures, _ = model._reference_batch(40)
    brightest = pictures.amax((1, 2, 3))
    assert 0.5 <= brightest.min() < 0.9
    assert brightest.max() == 1
    assert (brightest < 1).sum() > 5


def test_training_without_reference_pictures_is_refused(batches: list[ImageBatch], tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="set reference_root to a folder"):
        fit(DeepOneClass(**SMALL), batches, tmp_path)


@pytest.mark.parametrize("compact", ["features", "logits"])
def test_loss_is_the_sum_of_the_published_ones(
    root: Path, batches: list[ImageBatch], compact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = DeepOneClass(**SMALL, reference_root=str(root), compact=compact, compactness_weight=0.3)
    model.setup("fit")
    model._trainer = SimpleNamespace(global_step=4, datamodule=None)
    logged: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(model, "log_losses", lambda losses, _: logged.update(losses))
    passed: list[tuple[torch.Tensor, torch.Tensor]] = []
    model.model.register_forward_hook(lambda _, inputs, output: passed.append((inputs[0], output)))

    loss = model.training_step(batches[0])

    ((images, features),) = passed
    pictures, labels = model.reference.batch(4, 42 * 1_000_003 + 4)
    torch.testing.assert_close(images[:4], batches[0].image)
    torch.testing.assert_close(images[4:], model.pre_processor(pictures))
    logits = model.model.classifier(features)
    assert logits.shape == (8, 3)
    drawn = compactness((features if compact == "features" else logits)[:4])
    torch.testing.assert_close(loss, cross_entropy(logits[4:], labels) + 0.3 * drawn)
    assert {"loss", "descriptiveness", "compactness", "feature_spread"} == logged.keys()


def test_gradients_reach_all_that_is_not_frozen(root: Path, batches: list[ImageBatch], tmp_path: Path) -> None:
    model: Any = DeepOneClass(**SMALL, reference_root=str(root), frozen_levels=1, feature_size=8)
    before = {name: value.clone() for name, value in model.model.named_parameters()}
    fit(model, batches, tmp_path)
    same = {name for name, value in model.model.named_parameters() if torch.equal(value, before[name])}
    frozen = {name for name, value in model.model.named_parameters() if not value.requires_grad}
    assert frozen
    assert same - {"classifier.weight", "classifier.bias"} == frozen


def test_single_class_is_said_and_told_from_the_target(
    root: Path, batches: list[ImageBatch], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = fit(DeepOneClass(**SMALL, reference_root=str(root / "0")), batches, tmp_path)
    assert "There is one reference class" in caplog.text
    assert done.model.model.classifier.out_features == 2  # type: ignore[union-attr]  # a linear layer


def test_templates_are_features_of_as_many_training_images_after_the_last_step(
    root: Path, batches: list[ImageBatch], tmp_path: Path
) -> None:
    model: Any = fit(DeepOneClass(**SMALL, reference_root=str(root)), batches, tmp_path).model
    with torch.no_grad():
        features = model.model.features(model.pre_processor(batches[0].image)[:3].mean(1, keepdim=True))
    torch.testing.assert_close(model.model.templates, torch.nn.functional.normalize(features), atol=1e-5, rtol=1e-3)
    torch.testing.assert_close(model.model.center, features.mean(0), atol=1e-5, rtol=1e-3)


def test_weights_come_from_the_file_at_the_start_of_training_and_then_from_the_checkpoint(
    root: Path, batches: list[ImageBatch], tmp_path: Path
) -> None:
    torch.manual_seed(5)
    network = timm.create_model("test_resnet", pretrained=False)
    weights = tmp_path / "weights.pth"
    torch.save(network.state_dict(), weights)
    settings = {**SMALL, "reference_root": str(root), "weights": str(weights), "frozen_levels": 3}
    trained = fit(DeepOneClass(**settings), batches, tmp_path / "run")
    weights.unlink()
    restored: Any = DeepOneClass.load_from_checkpoint(trained.checkpoint, map_location="cpu")
    found = restored.model.features.backbone.network.state_dict()
    compared = [name for name in found if "num_batches" not in name]
    assert compared
    for name in compared:
        assert torch.equal(found[name], network.state_dict()[name]), name
    fit(DeepOneClass(**settings), batches, tmp_path / "more", epochs=2, resume=trained.checkpoint)
    with pytest.raises(XrayError, match=r"weights\.pth is missing"):
        fit(DeepOneClass(**settings), batches, tmp_path / "again")


def test_published_optimiser_is_sgd_with_momentum(root: Path) -> None:
    model: Any = DeepOneClass(**SMALL, reference_root=str(root), optimizer="sgd", weight_decay=0.1)
    optimizer = model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.SGD)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (1e-3, 0.9, 0.1)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"templates": 0}, "templates is 0"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"compactness_weight": -1.0}, "compactness_weight is"),
        ({"frozen_levels": 9}, "frozen_levels is 9"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(XrayError, match=named):
        DeepOneClass(**{**SMALL, **settings})


def test_collapse_is_watched() -> None:
    assert any(isinstance(callback, CollapseMonitor) for callback in DeepOneClass(**SMALL).configure_callbacks())


@pytest.mark.parametrize("number", [2, 5])
def test_compactness_is_the_distance_from_the_mean_of_the_others(number: int) -> None:
    features = np.random.default_rng(0).normal(size=(number, 7))
    apart = 0.0
    for i in range(number):
        others = np.mean([features[j] for j in range(number) if j != i], axis=0)
        apart += float(((features[i] - others) ** 2).sum())
    np.testing.assert_allclose(compactness(torch.from_numpy(features)).item(), apart / (number * 7))


def test_compactness_of_a_single_image_is_0_and_has_a_gradient_of_0() -> None:
    features = torch.rand(1, 3, requires_grad=True)
    loss = compactness(features)
    loss.backward()
    assert loss == 0
    assert features.grad is not None
    assert torch.equal(features.grad, torch.zeros(1, 3))


def mean_cross_entropy(logits: np.ndarray, labels: list[int]) -> float:
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return float(-np.mean([np.log(share[label]) for share, label in zip(shares, labels, strict=True)]))


def test_descriptiveness_looks_at_the_reference_classes_alone() -> None:
    target, reference = np.random.default_rng(1).normal(size=(2, 4, 3))
    labels = [0, 2, 1, 2]
    found = descriptiveness(torch.from_numpy(target), torch.from_numpy(reference), torch.tensor(labels), 3)
    np.testing.assert_allclose(found.item(), mean_cross_entropy(reference, labels))


def test_single_reference_class_is_told_from_the_target() -> None:
    target, reference = np.random.default_rng(1).normal(size=(2, 4, 2))
    found = descriptiveness(
        torch.from_numpy(target), torch.from_numpy(reference), torch.zeros(4, dtype=torch.long), classes=1
    )
    expected = mean_cross_entropy(np.concatenate([reference, target]), [0] * 4 + [1] * 4)
    np.testing.assert_allclose(found.item(), expected)
