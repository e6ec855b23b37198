from __future__ import annotations

import logging
import re
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.demos.boring_classes import BoringModel
from scipy.spatial.distance import pdist
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from anomalib_xray.training.callbacks import (
    ChannelsLast,
    CollapseMonitor,
    CompileNetworks,
    ForegroundScores,
    GanMonitor,
    TrainingEnd,
    diversity,
    feature_spread,
    foreground_of,
)
from anomalib_xray_plugins.alpha_gan import AlphaGan
from anomalib_xray_plugins.cae import Cae
from anomalib_xray_plugins.feature_ae import FeatureAe

REAL = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
VARIED = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
ALIKE = VARIED[:1] + 0.001 * VARIED


def watch(
    monitor: GanMonitor, *, epochs: int, samples: torch.Tensor = VARIED, logits: tuple[float, float] = (1.0, -1.0),
    loss: str = "log",
) -> dict[str, float]:  # fmt: skip
    """Epochs with the same samples and logits; returns what was logged."""
    logged: dict[str, float] = {}
    metrics = {"train_real_logit": torch.tensor(logits[0]), "train_sample_logit": torch.tensor(logits[1])}
    module: Any = SimpleNamespace(
        grey=lambda batch: batch,
        samples=lambda: samples,
        log_dict=logged.update,
        adversarial_loss=loss,
    )
    for epoch in range(epochs):
        trainer: Any = SimpleNamespace(callback_metrics=metrics, current_epoch=epoch)
        monitor.on_train_batch_end(trainer, module, None, REAL, 0)
        monitor.on_train_batch_end(trainer, module, None, REAL[:1], 1)
        monitor.on_train_epoch_end(trainer, module)
    return logged


def test_diversity_is_the_mean_distance_of_pairs_as_a_share_of_the_real_ones() -> None:
    def spread(images: torch.Tensor) -> float:
        return float(np.mean(pdist(images.flatten(1).numpy())) / 8)

    assert diversity(VARIED, REAL) == pytest.approx(spread(VARIED) / spread(REAL))
    assert diversity(REAL, REAL) == pytest.approx(1)
    assert diversity(ALIKE[:1].repeat(4, 1, 1, 1), REAL) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("real", [None, REAL[:1], REAL[:1].repeat(3, 1, 1, 1)])
def test_nothing_to_compare_with_is_no_finding(real: torch.Tensor | None) -> None:
    assert diversity(VARIED, real) == 1


def test_margin_and_diversity_are_logged() -> None:
    logged = watch(GanMonitor(), epochs=1, logits=(2.0, -0.5))
    assert logged["train_discriminator_margin"] == pytest.approx(2.5)
    assert logged["train_sample_diversity"] == pytest.approx(diversity(VARIED, REAL))


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ({"samples": ALIKE}, "nearly alike"),
        ({"logits": (9.0, -8.0)}, "sure of everything"),
        ({"logits": (0.001, 0.0)}, "tells nothing apart"),
    ],
)
def test_what_lasts_is_reported_once(state: Any, word: str, caplog: pytest.LogCaptureFixture) -> None:
    monitor = GanMonitor(patience=3)
    with caplog.at_level(logging.WARNING):
        watch(monitor, epochs=2, **state)
        assert caplog.records == []
        watch(monitor, epochs=4, **state)
    assert [word in record.getMessage() for record in caplog.records] == [True]


def test_a_recovery_starts_the_count_again(caplog: pytest.LogCaptureFixture) -> None:
    monitor = GanMonitor(patience=3)
    for _ in range(3):
        watch(monitor, epochs=2, samples=ALIKE)
        watch(monitor, epochs=1)
    assert caplog.records == []


def test_a_critic_may_be_far_from_0(caplog: pytest.LogCaptureFixture) -> None:
    watch(GanMonitor(patience=1), epochs=2, logits=(90.0, -80.0), loss="wgan-gp")
    assert caplog.records == []


def test_a_checkpoint_keeps_the_count(caplog: pytest.LogCaptureFixture) -> None:
    first, second = GanMonitor(patience=3), GanMonitor(patience=3)
    watch(first, epochs=2, samples=ALIKE)
    second.load_state_dict(first.state_dict())
    watch(second, epochs=1, samples=ALIKE)
    assert len(caplog.records) == 1


def epochs(monitor: CollapseMonitor, *spreads: float | None) -> None:
    for epoch, spread in enumerate(spreads):
        metrics = {} if spread is None else {"train_feature_spread": torch.tensor(spread)}
        trainer: Any = SimpleNamespace(callback_metrics=metrics, current_epoch=epoch)
        monitor.on_train_epoch_end(trainer, cast("Any", None))


def test_spread_is_the_distance_from_the_mean_over_the_length() -> None:
    features = np.random.default_rng(0).normal(2, 1, (5, 3))
    apart = np.mean([((one - features.mean(0)) ** 2).sum() for one in features])
    length = np.mean([(one**2).sum() for one in features])
    found = feature_spread(torch.from_numpy(features))
    np.testing.assert_allclose(found.item(), np.sqrt(apart / length), rtol=1e-5)


@pytest.mark.parametrize(
    ("features", "expected"), [([[1.0, 2.0]] * 3, 0.0), ([[0.0]] * 2, 0.0), ([[1.0], [-1.0]], 1.0)]
)
def test_spread_at_its_limits(features: list[list[float]], expected: float) -> None:
    assert feature_spread(torch.tensor(features)).item() == expected


def test_collapse_is_reported_once_after_its_patience(caplog: pytest.LogCaptureFixture) -> None:
    monitor = CollapseMonitor("do something", patience=2)
    with caplog.at_level(logging.WARNING):
        epochs(monitor, 0.1, 1e-5, 0.1, 1e-5, None)
        assert caplog.records == []
        epochs(monitor, 1e-5, 1e-5, 1e-5)
    (record,) = caplog.records
    assert "the same features" in record.getMessage()
    assert record.getMessage().endswith("do something.")


def test_counting_goes_on_after_a_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    first = CollapseMonitor("do something", patience=2)
    epochs(first, 1e-5)
    second = CollapseMonitor("do something", patience=2)
    second.load_state_dict(first.state_dict())
    with caplog.at_level(logging.WARNING):
        epochs(second, 1e-5)
    assert len(caplog.records) == 1


NOW = datetime(2026, 11, 27, 12, 0).timestamp()


class SlowEpochs(Callback):
    """A clock by which epochs take as many seconds as they are told to, not a moment of real time."""

    def __init__(self, seconds: list[float]) -> None:
        self.now = NOW
        self.seconds = iter(seconds)

    def on_train_epoch_end(self, *_: Any) -> None:  # before the callback that is tested, which is listed later
        self.now += next(self.seconds)


def printed(capsys: pytest.CaptureFixture[str], seconds: list[float], checkpoint: str | None = None, **how: Any) -> str:
    epochs = SlowEpochs(seconds)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        limit_train_batches=3,
        limit_val_batches=0,
        callbacks=[epochs, TrainingEnd(lambda: epochs.now)],
        **how,
    )
    capsys.readouterr()
    trainer.fit(BoringModel(), ckpt_path=checkpoint)
    return "\n".join(line for line in capsys.readouterr().out.splitlines() if "ends about" in line)


def test_the_end_is_said_once_after_the_second_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, [1000, 60, 70, 80, 90], max_epochs=5) == (
        "The second epoch took 60 s: this training ends about 2026-11-27 12:20, in 3 min (epochs left: 3)."
    )


@pytest.mark.parametrize(
    ("how", "left"),
    [
        ({"max_epochs": -1, "max_steps": 8}, "in 60 s (epochs left: 1)"),
        ({"max_epochs": 100, "max_steps": 14}, "in 3 min (epochs left: 3)"),
        ({"max_epochs": 5, "max_steps": 14}, "in 3 min (epochs left: 3)"),
    ],
)
def test_the_earlier_limit_counts(how: dict[str, int], left: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert left in printed(capsys, [60] * 5, **how)


def test_a_limit_of_time_counts(capsys: pytest.CaptureFixture[str]) -> None:
    minutes = re.search(r"in (\d+) min", printed(capsys, [3600] * 3, max_epochs=3, max_time={"minutes": 30}))
    assert minutes is not None
    assert int(minutes[1]) in (29, 30)  # Lightning's timer has a clock of its own


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_training_that_is_at_its_end_says_nothing(epochs: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, [60] * epochs, max_epochs=epochs) == ""


def test_a_training_that_goes_on_counts_from_there(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    first = Trainer(
        accelerator="cpu", logger=False, max_epochs=10, limit_train_batches=3, limit_val_batches=0,
        enable_progress_bar=False, enable_checkpointing=False,
    )  # fmt: skip
    first.fit(BoringModel())
    first.save_checkpoint(tmp_path / "ten.ckpt")
    text = printed(capsys, [60] * 10, str(tmp_path / "ten.ckpt"), max_epochs=20)
    assert "(epochs left: 8)" in text


IMAGE = torch.rand(2, 1, 64, 64).repeat(1, 3, 1, 1)


def compiled(model: Any) -> dict[str, bool]:
    return {name: network._compiled_call_impl is not None for name, network in model.model.named_children()}


def test_networks_are_compiled_for_training_only() -> None:
    model = AlphaGan(image_size=64, width=8, latent_size=16, ema_decay=0.9)
    names = set(model.state_dict())
    callback = CompileNetworks(backend="eager")
    callback.setup(SimpleNamespace(), model, "fit")  # type: ignore[arg-type]  # it is not looked at
    assert compiled(model) == {
        "encoder": True,
        "generator": True,
        "discriminator": True,
        "code_discriminator": True,
        "average": False,  # it does not learn
        "memory": False,
        "scorer": False,
    }
    assert set(model.state_dict()) == names
    callback.teardown(SimpleNamespace(), model, "fit")  # type: ignore[arg-type]  # as above
    assert not any(compiled(model).values())


def test_a_trainer_compiles_and_undoes_it() -> None:
    model = Cae(image_size=64, width=4, evaluator=False, visualizer=False)
    callback, seen = CompileNetworks(backend="eager"), []
    watch = LambdaCallback(on_train_batch_end=lambda *_: seen.append(compiled(model)))
    trainer = Trainer(
        accelerator="cpu", logger=False, max_steps=1, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[callback, watch],
    )  # fmt: skip
    trainer.fit(model, DataLoader([ImageBatch(image=IMAGE)], batch_size=None))  # type: ignore[arg-type]  # any sequence
    assert seen == [{"encoder": True, "decoder": True, "scorer": False}]
    assert not any(compiled(model).values())


def test_channels_last_computes_the_same() -> None:
    model = FeatureAe(image_size=128, backbone="resnet18").train()
    image = torch.rand(2, 1, 128, 128).repeat(1, 3, 1, 1)
    expected = model.training_step(ImageBatch(image=image))
    names = list(model.state_dict())
    ChannelsLast().setup(SimpleNamespace(), model, "test")  # type: ignore[arg-type]  # it is not looked at
    weights = [weight for weight in model.parameters() if weight.dim() == 4 and min(weight.shape[1:]) > 1]
    assert weights
    assert all(weight.is_contiguous() for weight in weights)
    ChannelsLast().setup(SimpleNamespace(), model, "fit")  # type: ignore[arg-type]  # as above
    assert not any(weight.is_contiguous() for weight in weights)
    assert list(model.state_dict()) == names
    torch.testing.assert_close(model.training_step(ImageBatch(image=image)), expected, rtol=1e-4, atol=1e-6)


def test_nothing_is_compiled_to_test() -> None:
    model = Cae(image_size=64, width=4)
    CompileNetworks(backend="eager").setup(SimpleNamespace(), model, "test")  # type: ignore[arg-type]  # as above
    assert not any(compiled(model).values())


def test_a_compiled_network_computes_the_same() -> None:
    model = Cae(image_size=64, width=4).train()
    expected = model.training_step(ImageBatch(image=IMAGE))
    # Captures the graph of the forward and of the backward pass, and needs no compiler.
    CompileNetworks(backend="aot_eager").setup(SimpleNamespace(), model, "fit")  # type: ignore[arg-type]  # as above
    found = model.training_step(ImageBatch(image=IMAGE))
    torch.testing.assert_close(found, expected)
    found.backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_the_background_is_the_smallest_value_however_it_is_normalised() -> None:
    image = torch.zeros(2, 3, 4, 4)
    image[0, :, 1:3, 1:3] = 0.5
    image[1] = 0.25
    for normalised in (image, (image - 0.45) / 0.225):
        found = foreground_of(normalised)
        assert torch.equal(found[0], image[0, 0] > 0)
        assert found[1].all()


def test_the_background_stays_what_a_bicubic_resize_darkens_beside_the_body() -> None:
    picture = torch.zeros(1, 3, 96, 96)
    picture[:, :, 24:72, 32:64] = 0.2 + 0.8 * torch.rand(48, 32, generator=torch.Generator().manual_seed(0))
    resized = resize(picture, [64, 64], InterpolationMode.BICUBIC, antialias=True)
    assert float(resized.min()) < 0
    body = resize((picture > 0).float(), [64, 64], InterpolationMode.BICUBIC, antialias=True)[:, 0] > 0.5
    found = foreground_of((resized - 0.45) / 0.22)
    assert float((found == body).float().mean()) > 0.97
    # Bright and dark parts of a raw picture that are as flat are none.
    raw = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1)).clamp(max=0.7)
    assert int(foreground_of(raw).sum()) == 64 * 64 - 1


@pytest.mark.parametrize("top_k", [2, 0.5, None])
def test_maps_and_scores_of_others_are_confined_to_the_foreground(top_k: float | None) -> None:
    image = torch.zeros(1, 3, 2, 4)
    image[:, :, :, :2] = 0.5
    heat = torch.tensor([[[1.0, 3.0, 9.0, 9.0], [2.0, 4.0, 9.0, 9.0]]])
    batch = ImageBatch(image=(image - 0.45) / 0.225, anomaly_map=heat, pred_score=torch.tensor([9.0]))
    ForegroundScores(top_k).on_test_batch_end(None, None, batch, None, 0)
    assert batch.anomaly_map is not None
    assert batch.pred_score is not None
    assert batch.anomaly_map.tolist() == [[[1, 3, 0, 0], [2, 4, 0, 0]]]
    assert batch.pred_score.tolist() == [9.0 if top_k is None else 3.5]


def test_a_model_without_a_map_keeps_its_scores() -> None:
    batch = ImageBatch(image=torch.rand(1, 3, 2, 2), pred_score=torch.tensor([9.0]))
    ForegroundScores().on_test_batch_end(None, None, batch, None, 0)
    assert batch.pred_score is not None
    assert batch.pred_score.tolist() == [9.0]
