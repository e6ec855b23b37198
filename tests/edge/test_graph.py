from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openvino  # type: ignore[import-untyped]  # openvino ships no types
import pytest
from openvino import opset13 as ops

from anomalib_xray.edge.graph import Graph, to_picture, unnormalise
from anomalib_xray.edge.predictor import Predictor, open_predictor
from anomalib_xray.errors import XrayError

from .tiny_bundle import checksums, seal

MakeBundle = Callable[..., Path]
SCALE = (0.4, 0.1, 0.9)


def grey(level: int, shape: tuple[int, int] = (16, 16)) -> np.ndarray:
    return np.full(shape, level, np.uint8)


def replaced(folder: Path) -> Predictor:
    """A predictor of an export whose model was replaced."""
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": checksums(folder)}))
    return open_predictor(seal(folder))


def normalised(raw: float, threshold: float, minimum: float, maximum: float) -> float:
    x = (raw - threshold) / (maximum - minimum)
    return 0.5 + x / (1 + 2 * abs(x))


@pytest.mark.parametrize("raw", [-50.0, 0.0, 0.399, 0.4, 0.41, 0.9, 7.0])
def test_unnormalise_takes_the_normalisation_back(raw: float) -> None:
    assert unnormalise(normalised(raw, *SCALE), *SCALE) == pytest.approx(raw, rel=1e-9)


def test_without_threshold_the_middle_became_one_half() -> None:
    assert unnormalise(0.5, None, 1.0, 3.0) == pytest.approx(2.0)


def test_saturated_values_stay_finite_and_in_order() -> None:
    raw = unnormalise(np.array([0, 0.001, 0.999, 1], np.float32), *SCALE)
    assert np.isfinite(raw).all()
    assert (np.diff(raw) > 0).all()


def test_score_and_map_are_raw(make_bundle: MakeBundle) -> None:
    prediction = open_predictor(make_bundle(image=SCALE, pixel=(0.2, 0.0, 1.0))).predict(grey(204))
    assert prediction.value == pytest.approx(0.8, rel=1e-5)
    assert prediction.normalised == pytest.approx(normalised(0.8, *SCALE), rel=1e-5)
    assert (prediction.threshold, prediction.pixel_threshold) == (0.4, 0.2)
    assert prediction.heat_map is not None
    assert prediction.heat_map.dtype == np.float32
    np.testing.assert_allclose(prediction.heat_map, 0.8, rtol=1e-5)


def test_a_graph_of_raw_values_is_taken_as_it_is(make_bundle: MakeBundle) -> None:
    prediction = open_predictor(make_bundle()).predict(grey(51))
    assert prediction.value == pytest.approx(0.2, rel=1e-6)
    assert prediction.normalised is None
    assert prediction.is_anomalous is None


def test_a_model_without_map_gives_a_score(make_bundle: MakeBundle) -> None:
    prediction = open_predictor(make_bundle(with_map=False)).predict(grey(51))
    assert prediction.heat_map is None
    assert prediction.value == pytest.approx(0.2, rel=1e-6)


def test_sixteen_bits_are_scaled_by_the_largest_value(make_bundle: MakeBundle) -> None:
    image = np.full((16, 16), 1000, np.uint16)
    assert open_predictor(make_bundle()).predict(image).value == pytest.approx(1.0)


def test_the_callers_threshold_decides(make_bundle: MakeBundle) -> None:
    runtime = open_predictor(make_bundle(image=SCALE), threads=1)
    assert runtime.predict(grey(204)).is_anomalous is True
    strict = runtime.predict(grey(204), threshold=0.9)
    assert (strict.threshold, strict.is_anomalous) == (0.9, False)
    assert runtime.predict(grey(204), threshold=0.0).threshold == 0.0


@pytest.mark.parametrize(
    "shape", [(96, 40), (40, 96), (97, 64), (64, 97), (65, 96), (33, 33), (16, 16), (9, 5), (7, 12)]
)
def test_a_bright_spot_comes_back_where_it_was(make_bundle: MakeBundle, shape: tuple[int, int]) -> None:
    height, width = shape
    image = grey(0, shape)
    # A spot of one map pixel or more, away from the middle, where a wrong offset would not show.
    radius = max(1, max(shape) // 16)
    row, column = round(height * 0.7), round(width * 0.2)
    image[row - radius : row + radius + 1, max(column - radius, 0) : column + radius + 1] = 255
    heat_map = open_predictor(make_bundle()).predict(image).heat_map
    assert heat_map is not None
    assert heat_map.shape == shape
    rows, columns = np.indices(shape)
    found = (rows * heat_map).sum() / heat_map.sum(), (columns * heat_map).sum() / heat_map.sum()
    expected = (rows * image.astype(float)).sum() / image.sum(), (columns * image.astype(float)).sum() / image.sum()
    assert found == pytest.approx(expected, abs=max(0.35, 0.35 * max(shape) / 16))


def test_padding_is_cut_off_symmetrically_with_the_odd_remainder_at_the_end() -> None:
    square = np.arange(49, dtype=np.float32).reshape(7, 7)
    np.testing.assert_array_equal(to_picture(square, 7, 4), square[:, 1:5])
    np.testing.assert_array_equal(to_picture(square, 4, 7), square[1:5])
    np.testing.assert_array_equal(to_picture(square, 7, 4, "uniform"), square[:, :4])
    np.testing.assert_array_equal(to_picture(square, 4, 7, "uniform"), square[:4])


def test_the_map_of_a_stock_export_is_cut_where_its_settings_say(make_bundle: Callable[..., Path]) -> None:
    image = np.random.default_rng(0).integers(1, 255, (8, 16), np.uint8)
    centred = open_predictor(make_bundle()).predict(image).heat_map
    uniform = open_predictor(make_bundle("uniform", settings={"padding": "uniform"})).predict(image).heat_map
    assert centred is not None
    assert uniform is not None
    assert not uniform[:4].any()
    np.testing.assert_allclose(uniform[4:], centred[:4], atol=1e-6)


def test_one_runtime_serves_several_threads(make_bundle: MakeBundle) -> None:
    runtime = open_predictor(make_bundle(image=SCALE))
    levels = list(range(10, 250, 5))
    with ThreadPoolExecutor(4) as pool:
        scores = [prediction.value for prediction in pool.map(runtime.predict, map(grey, levels))]
    np.testing.assert_allclose(scores, np.array(levels) / 255, rtol=1e-4)


def test_an_answer_outlives_the_next_one(make_bundle: MakeBundle) -> None:
    runtime = open_predictor(make_bundle(image=SCALE))
    first, again = (runtime.predict(grey(40)) for _ in range(2))
    kept = np.copy(first.heat_map)  # type: ignore[arg-type]
    runtime.predict(grey(200)[:20])  # of another size, by the same request
    np.testing.assert_array_equal(first.heat_map, kept)
    np.testing.assert_array_equal(again.heat_map, kept)


def test_an_unknown_device_is_named(make_bundle: MakeBundle) -> None:
    with pytest.raises(XrayError, match=r"no device TOASTER; choose one of .*CPU"):
        open_predictor(make_bundle(), device="TOASTER")


def test_no_threads_are_refused(make_bundle: MakeBundle) -> None:
    with pytest.raises(XrayError, match="0 threads"):
        open_predictor(make_bundle(), threads=0)


def test_a_damaged_model_is_named(make_bundle: MakeBundle) -> None:
    folder = make_bundle()
    (folder / "model.xml").write_text("<net")
    with pytest.raises(XrayError, match=r"model\.xml cannot be loaded"):
        Graph(folder / "model.xml")


def test_a_model_without_score_is_refused(make_bundle: MakeBundle) -> None:
    folder = make_bundle()
    picture = ops.parameter([-1, 3, -1, -1], np.float32, name="input")
    openvino.save_model(openvino.Model([ops.result(ops.relu(picture))], [picture], "bare"), folder / "model.xml")
    with pytest.raises(XrayError, match="no output 'scores' or 'pred_score'"):
        Graph(folder / "model.xml")


def test_a_score_that_is_no_number_is_refused(make_bundle: MakeBundle) -> None:
    folder = make_bundle()
    picture = ops.parameter([-1, 3, -1, -1], np.float32, name="input")
    result = ops.result(ops.log(ops.reduce_max(picture, ops.constant([1, 2, 3]), False)))
    result.output(0).tensor.set_names({"pred_score"})
    openvino.save_model(openvino.Model([result], [picture], "log"), folder / "model.xml")
    with pytest.raises(XrayError, match="no finite score"):
        replaced(folder).predict(grey(0, (5, 7)))


def test_a_picture_that_the_graph_cannot_take_is_refused(make_bundle: MakeBundle) -> None:
    folder = make_bundle()
    picture = ops.parameter([1, 3, 16, 16], np.float32, name="input")
    result = ops.result(ops.reduce_max(picture, ops.constant([1, 2, 3]), False))
    result.output(0).tensor.set_names({"pred_score"})
    openvino.save_model(openvino.Model([result], [picture], "fixed"), folder / "model.xml")
    with pytest.raises(XrayError, match="cannot process a picture of 7 x 5"):
        replaced(folder).predict(grey(9, (5, 7)))


def test_nothing_is_written_into_the_working_folder(
    make_bundle: MakeBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    open_predictor(make_bundle()).predict(grey(9))
    assert list(Path().iterdir()) == []
