from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from anomalib_xray.errors import XrayError
from anomalib_xray.phantom import ARMS, SceneOptions, render_phantom
from anomalib_xray.preparation.networks import SHIPPED_MODEL, Network, fit, unfit


def write_model(path: Path, shape: tuple[int, ...] = (1, 1, 32, 32), threshold: float = 0.5) -> Path:
    """A network that finds what is brighter, in the mean of its channels, than a threshold; it gives logits."""
    image = ops.parameter(list(shape), np.float32, name="image")
    logits = ops.subtract(ops.reduce_mean(image, np.array([1]), keep_dims=True), np.float32(threshold))
    openvino.save_model(openvino.Model([logits], [image]), path, compress_to_fp16=False)
    return path


def bright_square() -> np.ndarray:
    view = np.full((64, 32), 20, np.uint8)
    view[16:40, 8:24] = 220
    return view


def test_a_view_is_fitted_with_its_aspect_and_centred() -> None:
    fitted = fit(np.full((64, 32), 255, np.uint8), (16, 20))
    expected = np.zeros((16, 20), np.float32)
    expected[:, 6:14] = 1
    np.testing.assert_array_equal(fitted, expected)


def test_an_answer_comes_back_in_the_shape_of_the_view() -> None:
    answer = np.full((16, 20), -1.0, np.float32)
    answer[:, 6:14] = np.linspace(0, 15, 16)[:, None]
    returned = unfit(answer, (64, 32))
    assert returned.shape == (64, 32)
    np.testing.assert_allclose(returned[2:-2], np.tile(np.linspace(0.125, 14.875, 60)[:, None], 32), atol=0.01)


@pytest.mark.parametrize("shape", [(1, 1, 32, 32), (1, 3, 32, 32), (1, 1, 16, 48)])
def test_logits_from_0_on_are_foreground(tmp_path: Path, shape: tuple[int, ...]) -> None:
    found = Network(write_model(tmp_path / "model.xml", shape), "logits").segment(bright_square())
    truth = bright_square() > 100
    assert (found & truth).sum() / (found | truth).sum() > 0.75
    assert not found[:8].any()


def test_probabilities_from_a_half_on_are_foreground(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.xml", threshold=0)  # gives the grey level itself
    found = Network(path, "probabilities").segment(bright_square())
    expected = Network(write_model(tmp_path / "b.xml"), "logits").segment(bright_square())
    np.testing.assert_array_equal(found, expected)
    assert found.any()


def test_an_onnx_file_is_a_model(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1, 32, 32]) for name in ("image", "logits")
    ]
    half = onnx.numpy_helper.from_array(np.array(0.5, np.float32), "half")
    node = onnx.helper.make_node("Sub", ["image", "half"], ["logits"])
    graph = onnx.helper.make_graph([node], "brighter", ends[:1], ends[1:], [half])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    found = Network(tmp_path / "model.onnx", "logits").segment(bright_square())
    expected = Network(write_model(tmp_path / "model.xml"), "logits").segment(bright_square())
    np.testing.assert_array_equal(found, expected)


def test_a_replaced_model_is_loaded_anew(tmp_path: Path) -> None:
    network = Network(write_model(tmp_path / "model.xml"), "logits")
    before, found = network.fingerprint(), network.segment(bright_square())
    assert found.any()
    assert network.fingerprint() == before
    write_model(tmp_path / "model.xml", threshold=2)
    os.utime(tmp_path / "model.xml", ns=(1, 1))  # file systems with coarse times would hide the change
    assert network.fingerprint() != before
    assert not network.segment(bright_square()).any()


def test_the_fingerprint_is_the_hash_of_all_files_of_the_model(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.xml")
    content = path.read_bytes() + path.with_suffix(".bin").read_bytes()
    assert Network(path).fingerprint() == hashlib.sha256(content).hexdigest()


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    for call in (
        Network(tmp_path / "no.xml").fingerprint,
        lambda: Network(tmp_path / "no.xml").segment(bright_square()),
    ):
        with pytest.raises(XrayError, match=r"no\.xml cannot be read"):
            call()


@pytest.mark.parametrize("name", ["model.xml", "model.onnx"])
def test_a_damaged_model_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("no model")
    with pytest.raises(XrayError, match="cannot be loaded"):
        Network(tmp_path / name).segment(bright_square())


@pytest.mark.parametrize("shape", [(1, 2, 32, 32), (2, 1, 32, 32), (1, 1, -1, -1), (1, 1, 32)])
def test_models_with_other_inputs_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = write_model(tmp_path / "model.xml", shape)
    with pytest.raises(XrayError, match="single input"):
        Network(path).segment(bright_square())


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (3, 5)])
@pytest.mark.parametrize("level", [0, 255])
def test_tiny_and_constant_pictures_are_no_error(tmp_path: Path, shape: tuple[int, int], level: int) -> None:
    view = np.full(shape, level, np.uint8)
    assert Network(write_model(tmp_path / "model.xml"), "logits").segment(view).shape == shape
    assert Network(SHIPPED_MODEL).segment(view).shape == shape


def test_the_shipped_network_finds_hands() -> None:
    options = SceneOptions(prepared=False, marker=1, second_hand=0.3)
    overlaps = []
    for seed in range(8):
        phantom = render_phantom(np.random.default_rng([7, seed]), options)
        found = Network().segment(phantom.image)
        overlaps.append((found & phantom.foreground).sum() / (found | phantom.foreground).sum())
    assert np.mean(overlaps) >= 0.95
    assert min(overlaps) >= 0.9


def test_the_shipped_network_finds_arms_on_plates() -> None:
    overlaps = []
    for seed in range(8):
        phantom = render_phantom(np.random.default_rng([9, seed]), dataclasses.replace(ARMS, inverted=0))
        found = Network().segment(phantom.image)
        overlaps.append((found & phantom.foreground).sum() / (found | phantom.foreground).sum())
    assert np.mean(overlaps) >= 0.85


def test_the_shipped_network_is_small() -> None:
    assert SHIPPED_MODEL.with_suffix(".bin").stat().st_size < 700_000
