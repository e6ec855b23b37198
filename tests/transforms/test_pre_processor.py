from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch

from anomalib_xray.errors import XrayError
from anomalib_xray.openvino_runtime import openvino_core
from anomalib_xray.transforms import EqualizeForeground, MinMax, PadResize, XrayPreProcessor

OpenVino = Callable[[torch.Tensor], np.ndarray]


@pytest.mark.parametrize("equalize", [False, True])
def test_geometry_then_equalisation_then_scaling(equalize: bool, hand_image: Callable[..., torch.Tensor]) -> None:
    images = torch.stack([hand_image(100, 70, seed) * 0.6 for seed in range(2)])
    expected = PadResize(64)(images)
    if equalize:
        expected = EqualizeForeground()(expected)
    expected = MinMax()(expected)
    pre_processor = XrayPreProcessor(64, equalize=equalize)
    torch.testing.assert_close(pre_processor(images), expected)
    torch.testing.assert_close(pre_processor.geometry(images), PadResize(64)(images))


def test_geometry_per_item_beforehand_changes_nothing(hand_image: Callable[..., torch.Tensor]) -> None:
    images = hand_image(100, 70)[None]
    pre_processor = XrayPreProcessor(64, equalize=True)
    torch.testing.assert_close(pre_processor(pre_processor.geometry(images)), pre_processor(images), rtol=0, atol=1e-6)


def test_channels_stay_equal_and_a_single_one_becomes_three(hand_image: Callable[..., torch.Tensor]) -> None:
    pre_processor = XrayPreProcessor(32)
    image = hand_image(50, 40)[None]
    three = pre_processor(image)
    assert torch.equal(three[:, 0], three[:, 1])
    assert torch.equal(three[:, 0], three[:, 2])
    assert torch.equal(pre_processor(image[:, :1]), three)


@pytest.mark.parametrize("stage", ["train", "validation", "test", "predict"])
@pytest.mark.parametrize("has_mask", [True, False])
def test_batches_of_every_stage_get_what_is_exported(
    stage: str, has_mask: bool, hand_image: Callable[..., torch.Tensor]
) -> None:
    images = torch.stack([hand_image(60, 80, seed) for seed in range(2)])
    batch = ImageBatch(image=images.clone(), gt_mask=images[:, 0] > 0.5 if has_mask else None)
    pre_processor = XrayPreProcessor(32, equalize=True)
    getattr(pre_processor, f"on_{stage}_batch_start")(SimpleNamespace(), SimpleNamespace(), batch, 0)
    assert torch.equal(torch.as_tensor(batch.image), pre_processor(images))
    assert (batch.gt_mask is not None) == has_mask
    if has_mask:
        assert batch.gt_mask.shape == (2, 32, 32)
        assert batch.gt_mask.dtype == torch.bool
        assert batch.gt_mask.any()


def test_checkpoint_config_is_plain_and_restores(hand_image: Callable[..., torch.Tensor]) -> None:
    saved = XrayPreProcessor(48, equalize=True, padding="uniform")
    config = saved.checkpoint_config()
    assert config == {"image_size": 48, "equalize": True, "padding": "uniform"}
    restored = XrayPreProcessor()
    restored.load_checkpoint_config(config)
    image = hand_image(70, 90)[None]
    assert torch.equal(restored(image), saved(image))
    assert torch.equal(restored.transform(image), saved(image))
    assert restored.checkpoint_config() == config
    assert restored.geometry.size == 48


def test_a_configuration_from_before_there_was_a_choice_is_centred(hand_image: Callable[..., torch.Tensor]) -> None:
    restored = XrayPreProcessor()
    restored.load_checkpoint_config({"image_size": 48, "equalize": True})
    image = hand_image(70, 90)[None]
    assert torch.equal(restored(image), XrayPreProcessor(48, equalize=True, padding="centred")(image))


def test_an_impossible_size_is_refused() -> None:
    with pytest.raises(XrayError, match="at least 1 pixel"):
        XrayPreProcessor(0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> OpenVino:
    """The pre-processor (64, equalize) as anomalib exports a model, opened by OpenVINO."""
    path: Path = tmp_path_factory.mktemp("exported") / "pre_processor.onnx"
    dynamic = {0: torch.export.Dim("batch_size"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    torch.onnx.export(
        XrayPreProcessor(64, equalize=True).eval(),
        (torch.zeros(2, 3, 32, 32),),
        path,
        opset_version=18,
        dynamo=True,
        input_names=["input"],
        dynamic_shapes=(dynamic,),
        verbose=False,
    )
    compiled = openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: compiled(images.numpy())[0]


@pytest.mark.parametrize("shape", [(300, 201), (48, 91), (64, 64), (1, 50), (77, 1)])
def test_openvino_gives_the_same_image(
    shape: tuple[int, int], exported: OpenVino, hand_image: Callable[..., torch.Tensor]
) -> None:
    images = torch.stack([hand_image(*shape, seed) * (seed > 0) for seed in range(3)])
    expected = XrayPreProcessor(64, equalize=True)(images).numpy()
    np.testing.assert_allclose(exported(images), expected, rtol=0, atol=1e-5)


def test_openvino_gives_the_same_image_of_random_8_bit_levels(exported: OpenVino) -> None:
    # Shrinking by two makes many exact halves of a grey level, where rounding decides what is foreground.
    levels = np.random.default_rng(0).integers(0, 4, (8, 1, 128, 128)) * (
        np.random.default_rng(1).random((8, 1, 128, 128)) < 0.3
    )
    images = torch.from_numpy(levels).float().div(255).repeat(1, 3, 1, 1)
    np.testing.assert_allclose(exported(images), XrayPreProcessor(64, equalize=True)(images).numpy(), rtol=0, atol=1e-5)
