from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.post_processing import PostProcessor
from torch import nn

from anomalib_xray.edge.graph import unnormalise
from anomalib_xray.errors import XrayError
from anomalib_xray.openvino_runtime import openvino_core
from anomalib_xray.training.post_processor import PIXELS_PER_IMAGE, XrayPostProcessor


def make_batch(scores: Any, labels: Any = None, maps: torch.Tensor | None = None, **fields: Any) -> ImageBatch:
    scores = torch.as_tensor(scores, dtype=torch.float32)
    size = (8, 8) if maps is None else maps.shape[-2:]
    return ImageBatch(
        image=fields.pop("image", torch.ones(len(scores), 3, *size)),
        gt_label=None if labels is None else torch.tensor(labels),
        pred_score=scores,
        anomaly_map=maps,
        **fields,
    )


def validate(post_processor: PostProcessor, *batches: ImageBatch, sanity_checking: bool = False) -> None:
    trainer = SimpleNamespace(sanity_checking=sanity_checking, val_dataloaders=None)
    for index, batch in enumerate(batches):
        post_processor.on_validation_batch_end(trainer, None, batch, batch, index)
    post_processor.on_validation_epoch_end(trainer, None)


def half_seen_maps(count: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 3, H, W) whose left half is background, and maps (N, H, W) that are high there."""
    torch.manual_seed(0)
    images, maps = torch.rand(count, 3, side, side) + 0.1, torch.rand(count, side, side)
    images[..., : side // 2] = 0
    maps[..., : side // 2] = 50
    return images, maps


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.95, 1.0])
def test_image_threshold_is_the_quantile_of_the_normal_scores(quantile: float) -> None:
    scores = np.random.default_rng(0).gamma(2, size=40).astype(np.float32)
    labels = [int(index % 3 == 0) for index in range(40)]
    post_processor = XrayPostProcessor(image_quantile=quantile)
    validate(post_processor, make_batch(scores[:25], labels[:25]), make_batch(scores[25:], labels[25:]))
    expected = np.quantile(scores[np.array(labels) == 0], quantile)
    assert float(post_processor.image_threshold) == pytest.approx(expected, rel=1e-6)
    assert float(post_processor.image_min) == scores.min()
    assert float(post_processor.image_max) == scores.max()


def test_images_without_labels_count_as_normal() -> None:
    post_processor = XrayPostProcessor(image_quantile=0.5)
    validate(post_processor, make_batch([1.0, 2.0, 9.0]))
    assert float(post_processor.image_threshold) == 2


def test_a_validation_set_without_normal_images_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    post_processor = XrayPostProcessor()
    with caplog.at_level(logging.WARNING):
        validate(post_processor, make_batch([1.0, 2.0], [1, 1]))
    assert "No normal image" in caplog.text
    assert torch.isnan(post_processor.image_threshold)


@pytest.mark.parametrize("method", ["normal_quantile", "f1"])
def test_pixel_threshold_is_the_quantile_of_the_normal_foreground(method: Any) -> None:
    images, maps = half_seen_maps(4, 20)
    labels = [0, 1, 0, 1]
    maps[1] += 10
    post_processor = XrayPostProcessor(method, pixel_quantile=0.9)
    validate(post_processor, make_batch([0.1, 0.8, 0.2, 0.9], labels, maps, image=images))
    seen = maps[[0, 2]][:, :, 10:].numpy()
    assert float(post_processor.pixel_threshold) == pytest.approx(np.quantile(seen, 0.9), rel=1e-6)


def test_large_images_give_evenly_spaced_quantiles_of_their_pixels() -> None:
    side = 200
    assert side * side // 2 > 10 * PIXELS_PER_IMAGE
    images, maps = half_seen_maps(3, side)
    post_processor = XrayPostProcessor(pixel_quantile=0.99)
    validate(post_processor, make_batch([0.1, 0.2, 0.3], [0, 0, 0], maps, image=images))
    seen = maps[:, :, side // 2 :].numpy()
    below = (seen < float(post_processor.pixel_threshold)).mean()
    assert below == pytest.approx(0.99, abs=2 / PIXELS_PER_IMAGE)


def test_a_map_smaller_than_its_image_takes_the_foreground_at_its_size() -> None:
    images, maps = half_seen_maps(2, 40)
    coarse = maps[:, ::4, ::4].contiguous()
    post_processor = XrayPostProcessor(pixel_quantile=1.0)
    validate(post_processor, make_batch([0.1, 0.2], [0, 0], coarse, image=images))
    assert float(post_processor.pixel_threshold) == coarse[:, :, 5:].max()


def test_f1_thresholds_are_those_of_anomalib() -> None:
    torch.manual_seed(0)
    scores, labels = torch.rand(20), [int(index > 12) for index in range(20)]
    masks = torch.rand(20, 6, 6) > 0.8
    maps = torch.rand(20, 6, 6) + masks * 0.4
    ours, theirs = XrayPostProcessor("f1"), PostProcessor()
    for post_processor in (ours, theirs):
        validate(post_processor, make_batch(scores, labels, maps, gt_mask=masks))
    assert torch.equal(ours.image_threshold, theirs.image_threshold)
    assert torch.equal(ours.pixel_threshold, theirs.pixel_threshold)


def test_the_threshold_itself_is_anomalous() -> None:
    # F1 chooses the observed score 0.8; anomalib itself then calls the anomaly that has it normal.
    post_processor = XrayPostProcessor("f1")
    validate(post_processor, make_batch([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1]))
    batch = make_batch([0.1, 0.2, 0.8, 0.9])
    post_processor.post_process_batch(batch)
    assert batch.pred_label.tolist() == [False, False, True, True]
    assert float(batch.pred_score[2]) == 0.5


def test_image_and_pixel_thresholds_are_separate() -> None:
    post_processor = XrayPostProcessor()
    validate(post_processor, make_batch([0.1, 0.2], [0, 0]))
    assert torch.isnan(post_processor.pixel_threshold)
    assert not torch.isnan(post_processor.image_threshold)


def test_normalisation_equals_its_formula_and_keeps_all_ranks() -> None:
    post_processor = XrayPostProcessor(image_quantile=0.5)
    validate(post_processor, make_batch([1.0, 2.0, 4.0], [0, 0, 0]))
    scores = np.concatenate([-np.geomspace(1e4, 0.01, 60), np.linspace(0, 6, 61), np.geomspace(6.1, 1e4, 60)])
    batch = make_batch(scores)
    post_processor.post_process_batch(batch)
    x = (scores - 2) / 3
    np.testing.assert_allclose(batch.pred_score.numpy(), 0.5 + x / (1 + 2 * np.abs(x)), atol=1e-6)
    assert (batch.pred_score.diff() > 0).all()
    assert batch.pred_score.min() > 0
    assert batch.pred_score.max() < 1


def test_the_slope_at_the_threshold_is_that_of_anomalib() -> None:
    bounds = (torch.tensor(1.0), torch.tensor(4.0), torch.tensor(2.0))
    near = torch.tensor([2 - 1e-3, 2 + 1e-3])
    theirs = PostProcessor._normalize(near, *bounds)
    torch.testing.assert_close(XrayPostProcessor._normalize(near, *bounds), theirs, atol=1e-6, rtol=0)


def test_validation_scores_of_one_value_give_zero_half_and_one() -> None:
    post_processor = XrayPostProcessor()
    validate(post_processor, make_batch([3.0, 3.0], [0, 0]))
    batch = make_batch([2.0, 3.0, 4.0])
    post_processor.post_process_batch(batch)
    assert batch.pred_score.tolist() == [0, 0.5, 1]
    assert batch.pred_label.tolist() == [False, True, True]


def test_without_a_validation_set_scores_and_maps_stay_raw() -> None:
    scores, maps = torch.tensor([0.2, 7.0]), torch.rand(2, 8, 8)
    batch = make_batch(scores, maps=maps)
    XrayPostProcessor().post_process_batch(batch)
    assert torch.equal(batch.pred_score, scores)
    assert torch.equal(torch.as_tensor(batch.anomaly_map), maps)


@pytest.mark.parametrize(("sensitivity", "expected"), [(0.5, 3.0), (0.7, 2.0), (0.3, 4.0)])
def test_sensitivity_moves_the_threshold(sensitivity: float, expected: float) -> None:
    post_processor = XrayPostProcessor(image_quantile=0.5, image_sensitivity=sensitivity)
    validate(post_processor, make_batch([1.0, 3.0, 4.0], [0, 0, 0]))
    # The normalised threshold 1 - sensitivity lies at a third of the range from the raw threshold.
    assert unnormalise(1 - sensitivity, 3.0, 1.0, 4.0) == pytest.approx(expected, abs=1e-6)
    batch = make_batch([expected - 0.01, expected + 0.01])
    post_processor.post_process_batch(batch)
    assert batch.pred_label.tolist() == [False, True]


def test_raw_score_takes_the_normalisation_back() -> None:
    bounds = (0.5, 4.0, 1.5)
    scores = torch.linspace(-10, 30, 201, dtype=torch.float64)
    normalized = XrayPostProcessor._normalize(scores, *(torch.tensor(bound) for bound in bounds))
    assert normalized is not None
    minimum, maximum, threshold = bounds
    np.testing.assert_allclose(unnormalise(normalized.numpy(), threshold, minimum, maximum), scores.numpy(), atol=1e-9)
    assert unnormalise(float(normalized[7]), threshold, minimum, maximum) == pytest.approx(float(scores[7]))


def test_the_sanity_check_leaves_no_trace() -> None:
    post_processor = XrayPostProcessor()
    validate(post_processor, make_batch([100.0], [0], torch.full((1, 8, 8), 100.0)), sanity_checking=True)
    assert torch.isnan(post_processor.image_threshold)
    validate(post_processor, make_batch([1.0], [0], torch.ones(1, 8, 8)))
    assert float(post_processor.image_threshold) == 1
    assert float(post_processor.pixel_threshold) == 1
    assert float(post_processor.image_max) == 1


def test_every_epoch_starts_anew() -> None:
    post_processor = XrayPostProcessor()
    for level in (5.0, 2.0):
        validate(post_processor, make_batch([level], [0], torch.full((1, 8, 8), level)))
        assert float(post_processor.image_threshold) == level
        assert float(post_processor.pixel_threshold) == level


def test_configuration_and_thresholds_survive_a_checkpoint() -> None:
    saved = XrayPostProcessor("f1", image_quantile=0.9, pixel_quantile=0.98, image_sensitivity=0.6)
    validate(saved, make_batch([0.1, 0.9], [0, 1], torch.rand(2, 8, 8)))
    restored = XrayPostProcessor()
    restored.load_checkpoint_config(saved.checkpoint_config())
    restored.load_state_dict(saved.state_dict())
    assert restored.checkpoint_config() == saved.checkpoint_config()
    assert restored.checkpoint_config()["threshold"] == "f1"
    assert (restored.image_quantile, restored.pixel_quantile, restored.image_sensitivity) == (0.9, 0.98, 0.6)
    assert torch.equal(restored.image_threshold, saved.image_threshold)
    assert torch.equal(restored.pixel_threshold, saved.pixel_threshold)


@pytest.mark.parametrize(
    "arguments", [{"threshold": "f2"}, {"image_quantile": 1.5}, {"pixel_quantile": -0.1}, {"image_quantile": 95}]
)
def test_impossible_settings_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(XrayError, match="|".join(map(str, arguments.values()))):
        XrayPostProcessor(**arguments)


class MeanScore(nn.Module):
    """A detector whose map is the image and whose score is its mean."""

    def __init__(self, post_processor: XrayPostProcessor) -> None:
        super().__init__()
        self.post_processor = post_processor

    def forward(self, image: torch.Tensor) -> InferenceBatch:
        anomaly_map = image[:, :1]
        return self.post_processor(InferenceBatch(pred_score=anomaly_map.mean((1, 2, 3)), anomaly_map=anomaly_map))


@pytest.mark.parametrize("validated", [True, False])
def test_openvino_gives_the_same_scores_and_labels(validated: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    post_processor = XrayPostProcessor()
    if validated:
        validate(post_processor, make_batch([0.2, 0.4, 0.5], [0, 0, 0], torch.rand(3, 8, 8)))
    model = MeanScore(post_processor).eval()
    torch.onnx.export(
        model,
        (torch.zeros(2, 3, 8, 8),),
        tmp_path / "model.onnx",
        opset_version=18,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch_size")},),
        verbose=False,
    )
    run: Callable[..., Any] = openvino_core().compile_model(
        tmp_path / "model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    images = torch.rand(5, 3, 8, 8) * torch.linspace(0.1, 9, 5)[:, None, None, None]
    expected = model(images)
    actual = run(images.numpy())
    for index, name in enumerate(InferenceBatch._fields):
        desired = getattr(expected, name).numpy().astype(float)
        np.testing.assert_allclose(actual[index].astype(float), desired, rtol=0, atol=1e-5)


@pytest.mark.parametrize("named", [True, False])
def test_a_promise_is_kept_by_patients_where_the_data_set_names_them(named: bool) -> None:
    scores = np.random.default_rng(1).normal(size=60).astype(np.float32)
    labels = [int(number >= 50) for number in range(60)]
    patients = [f"p{number // 2 % 25}" for number in range(60)]  # the first five have abnormal images, too
    paths = [f"{number}.png" for number in range(60)]
    samples = pd.DataFrame({"image_path": paths, "patient": patients, "study": ""})
    dataset = SimpleNamespace(samples=samples if named else None)
    trainer = SimpleNamespace(sanity_checking=False, val_dataloaders=SimpleNamespace(dataset=dataset))
    post_processor = XrayPostProcessor(false_alarms=0.1)
    for part in (slice(0, 33), slice(33, 60)):
        batch = make_batch(scores[part], labels[part], image_path=paths[part])
        post_processor.on_validation_batch_end(trainer, None, batch, batch, 0)  # type: ignore[arg-type]
    post_processor.on_validation_epoch_end(trainer, None)  # type: ignore[arg-type]
    # Normal are 20 patients with two images each, or, where nobody names them, all 50 normal images.
    rising = np.sort(scores[10:50].reshape(20, 2).max(1) if named else scores[:50])
    expected = rising[(19 if named else 46) - 1]  # ceil(21 * 0.9), ceil(51 * 0.9)
    assert float(post_processor.image_threshold) == np.nextafter(expected, np.float32(np.inf))


def test_too_few_patients_for_a_promise_are_refused() -> None:
    with pytest.raises(XrayError, match=r"With 3 .* validate on 19 or more, or set false_alarms to 0.25 or more"):
        validate(XrayPostProcessor(false_alarms=0.05), make_batch([1.0, 2.0, 3.0]))


def test_a_promise_needs_no_labels_and_a_share() -> None:
    with pytest.raises(XrayError, match="best F1 promises nothing"):
        XrayPostProcessor("f1", false_alarms=0.05)
    with pytest.raises(XrayError, match="false_alarms is 5"):
        XrayPostProcessor(false_alarms=5)
    restored = XrayPostProcessor()
    restored.load_checkpoint_config(XrayPostProcessor(false_alarms=0.05).checkpoint_config())
    assert restored.false_alarms == 0.05
    old = {key: value for key, value in XrayPostProcessor().checkpoint_config().items() if key != "false_alarms"}
    restored = XrayPostProcessor()
    restored.load_checkpoint_config(old)
    assert restored.false_alarms is None
