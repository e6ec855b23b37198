from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from anomalib.data import ImageBatch

from anomalib_xray.errors import XrayError
from anomalib_xray.testing.base import fit, normal_batch
from anomalib_xray.training.callbacks import CollapseMonitor
from anomalib_xray_plugins.deep_svdd import DeepSvdd
from anomalib_xray_plugins.deep_svdd.loss import away_from_0

SMALL: dict[str, Any] = {"image_size": 64, "width": 4, "code_size": 8, "learning_rate": 1e-3}


@pytest.fixture
def batches() -> list[ImageBatch]:
    torch.manual_seed(0)
    return [normal_batch((torch.rand(4, 1, 64, 64) + 0.01).clamp(max=1).repeat(1, 3, 1, 1)) for _ in range(2)]


def pre_processed(model: Any, batches: list[ImageBatch]) -> torch.Tensor:
    return torch.cat([model.pre_processor(batch.image) for batch in batches])


def test_center_is_the_mean_code_of_the_first_network_and_stays(batches: list[ImageBatch], tmp_path: Path) -> None:
    untrained: Any = DeepSvdd(**SMALL)
    codes = untrained.model(pre_processed(untrained, batches))  # in training mode
    one: Any = fit(DeepSvdd(**SMALL), batches, tmp_path / "one", epochs=1).model
    two: Any = fit(DeepSvdd(**SMALL), batches, tmp_path / "two", epochs=2).model
    torch.testing.assert_close(one.model.center, away_from_0(codes.mean(0)).detach(), atol=1e-5, rtol=1e-4)
    assert torch.equal(two.model.center, one.model.center)
    assert not torch.equal(two.model.encoder[-1].weight, one.model.encoder[-1].weight)


def test_score_is_the_squared_distance_from_the_center() -> None:
    model: Any = DeepSvdd(**SMALL).eval()
    model.model.center.copy_(torch.linspace(-1, 1, 8))
    images = torch.rand(3, 3, 64, 64)
    codes = model.model.encoder(images.mean(1, keepdim=True)).detach().numpy()
    expected = ((codes - model.model.center.numpy()) ** 2).sum(1)
    torch.testing.assert_close(model.model(images).pred_score.detach(), torch.from_numpy(expected))


def test_first_epochs_train_the_autoencoder_and_then_the_center_is_set(
    batches: list[ImageBatch], tmp_path: Path
) -> None:
    first = fit(DeepSvdd(**SMALL, pretrain_share=0.5), batches, tmp_path / "first", epochs=2)
    model: Any = first.model
    assert {"train_pretraining_loss", "train_loss", "train_distance"} <= first.metrics.keys()
    assert bool(model.model.has_center)
    # The centre is that of the pre-trained network.
    plain: Any = fit(DeepSvdd(**SMALL), batches, tmp_path / "plain").model
    assert not torch.equal(model.model.center, plain.model.center)


def test_pre_training_lowers_the_error_of_reconstructions(batches: list[ImageBatch], tmp_path: Path) -> None:
    model: Any = DeepSvdd(**SMALL, pretrain_share=0.9, pretrain_learning_rate=1e-2)
    for batch in batches:
        assert batch.image is not None
        batch.image[:, :, :, 32:] *= 0.1
    images = pre_processed(model, batches).mean(1, keepdim=True)

    @torch.no_grad()
    def error() -> float:
        model.model.train()
        return float((model.model.reconstruct(images) - images).square().mean())

    before = error()
    fit(model, batches, tmp_path, epochs=10)
    assert error() < 0.8 * before


def test_radius_of_a_soft_boundary_is_0_in_its_warm_up_and_then_encloses(
    batches: list[ImageBatch], tmp_path: Path
) -> None:
    soft = {**SMALL, "boundary": "soft", "nu": 0.25, "radius_warmup": 2}
    warm = fit(DeepSvdd(**soft), batches, tmp_path / "warm", epochs=1)
    assert warm.model.model.radius == 0  # type: ignore[operator, union-attr]  # a buffer
    done = fit(DeepSvdd(**soft), batches, tmp_path / "done", epochs=3)
    model: Any = done.model
    assert 0 < model.model.radius < 10
    assert done.metrics["train_radius"] > 0


def test_same_training_with_a_schedule_lowers_the_rate_of_each_part(batches: list[ImageBatch], tmp_path: Path) -> None:
    model: Any = DeepSvdd(**SMALL, pretrain_share=0.5, pretrain_learning_rate=0.1, schedule="linear")
    fit(model, batches, tmp_path, epochs=4)
    sphere, autoencoder = (optimizer.param_groups[0]["lr"] for optimizer in model.optimizers())
    assert sphere == pytest.approx(1e-3 * 0.01)
    assert autoencoder == pytest.approx(0.1 * 0.01)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"nu": 0.0}, "nu is"),
        ({"nu": 1.5}, "nu is"),
        ({"pretrain_share": 1.0}, "pretrain_share is"),
        ({"backbone": "test_resnet", "pretrain_share": 0.5}, "a backbone is frozen"),
        ({"weights": "weights.pth"}, "there is no backbone"),
        ({"backbone": "no_such_network"}, "no_such_network"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(XrayError, match=named):
        DeepSvdd(**SMALL, **settings)


def test_backbone_takes_its_weights_from_the_file_at_the_start_of_training(
    batches: list[ImageBatch], tmp_path: Path
) -> None:
    torch.manual_seed(5)
    network = timm.create_model("test_resnet", pretrained=False)
    weights = tmp_path / "weights.pth"
    torch.save(network.state_dict(), weights)
    settings = {**SMALL, "backbone": "test_resnet", "backbone_layer": 2, "weights": str(weights)}
    trained = fit(DeepSvdd(**settings), batches, tmp_path / "run")
    weights.unlink()
    restored: Any = DeepSvdd.load_from_checkpoint(trained.checkpoint, map_location="cpu")
    found = restored.model.encoder.backbone.network.state_dict()
    for name, value in network.state_dict().items():
        if name in found:
            assert torch.equal(found[name], value), name
    with pytest.raises(XrayError, match=r"weights\.pth is missing"):
        fit(DeepSvdd(**settings), batches, tmp_path / "again")


def test_collapse_is_watched() -> None:
    assert any(isinstance(callback, CollapseMonitor) for callback in DeepSvdd(**SMALL).configure_callbacks())
