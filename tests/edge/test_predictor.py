from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino  # type: ignore[import-untyped]  # openvino ships no types
import pytest
from openvino import opset13 as ops

from anomalib_xray.edge.predictor import on_original, open_predictor, outline_of
from anomalib_xray.edge.result import RankScale
from anomalib_xray.edge.table import sentence_of
from anomalib_xray.errors import XrayError
from anomalib_xray.openvino_runtime import openvino_core
from anomalib_xray.preparation.pipeline import Pipeline, Prepared

from .tiny_bundle import CROP, checksums, seal, write_bundle

SCALE = (0.4, 0.1, 0.9)


def grey(level: int, shape: tuple[int, int] = (24, 18)) -> np.ndarray:
    return np.full(shape, level, np.uint8)


@pytest.fixture
def _two_hands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for a preparation that finds two hands, side by side."""
    prepare = Pipeline.prepare

    def halves(pipeline: Pipeline, image: Any) -> list[Prepared]:
        middle = image.shape[1] // 2
        to_right = np.array([[1.0, 0, -middle], [0, 1, 0], [0, 0, 1]])
        (left,), (right,) = (prepare(pipeline, part) for part in (image[:, :middle], image[:, middle:]))
        return [left, Prepared(right.image, right.history, right.matrix @ to_right)]

    monkeypatch.setattr(Pipeline, "prepare", halves)


def test_every_score_its_percentile_and_the_verdict(tmp_path: Path) -> None:
    result = open_predictor(write_bundle(tmp_path / "b"), threads=1).predict(grey(102))
    assert result.model == "Tiny"
    assert result.scores == pytest.approx({"brightest": 0.4, "mean": 0.4}, rel=1e-6)
    assert result.percentiles["brightest"] == pytest.approx(50, abs=1e-3)  # of a distribution that is even on [.2, .6]
    assert result.percentiles["mean"] is None
    assert (result.score, result.percentile) == ("brightest", result.percentiles["brightest"])
    assert result.value == result.scores["brightest"]
    assert (result.threshold, result.is_anomalous) == (0.4, result.value >= 0.4)
    assert (result.pixel_threshold, result.map_limits, result.normalised) == (0.5, (0.0, 0.6), None)
    assert result.heat_map is not None
    assert (result.heat_map.shape, result.heat_map.dtype) == ((24, 18), np.float32)
    assert [(view.name, view.outline) for view in result.views] == [("view 1", None)]


@pytest.mark.parametrize(("padding", "top"), [(None, 4), ("centred", 4), ("uniform", 0)])
def test_the_map_is_cut_where_the_settings_say_that_the_picture_lies(
    tmp_path: Path, padding: str | None, top: int
) -> None:
    # The tiny model always centres; what is cut out of its map of 16 x 16 tells where the picture is taken to be.
    settings = {} if padding is None else {"padding": padding}
    image = np.random.default_rng(0).integers(1, 255, (8, 16), np.uint8)
    result = open_predictor(write_bundle(tmp_path / "b", settings=settings)).predict(image)
    square = np.zeros((16, 16), np.float32)
    square[4:12] = image / 255
    assert result.heat_map is not None
    np.testing.assert_allclose(result.heat_map, square[top : top + 8], atol=1e-5)


def test_the_callers_threshold_and_score_decide(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b")
    predictor = open_predictor(folder)
    assert predictor.predict(grey(204)).is_anomalous is True
    assert predictor.predict(grey(204), threshold=0.9).is_anomalous is False
    assert predictor.predict(grey(204), threshold=0.0).threshold == 0.0
    by_mean = open_predictor(folder, score="mean").predict(grey(204))
    assert (by_mean.score, by_mean.threshold, by_mean.is_anomalous) == ("mean", None, None)


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_that_is_no_number_is_refused(tmp_path: Path, threshold: float) -> None:
    with pytest.raises(XrayError, match="decides nothing"):
        open_predictor(write_bundle(tmp_path / "b")).predict(grey(1), threshold=threshold)


def test_a_stock_export_answers_as_before(make_bundle: Callable[..., Path]) -> None:
    result = open_predictor(make_bundle(image=SCALE, pixel=SCALE)).predict(grey(204))
    assert result.scores == pytest.approx({"brightest": 0.8}, rel=1e-5)
    assert result.percentiles == {"brightest": None}
    assert result.normalised == pytest.approx(0.5 + 0.5 / 2, rel=1e-5)
    assert (result.threshold, result.is_anomalous, result.map_limits) == (0.4, True, (0.1, 0.9))
    np.testing.assert_allclose(result.views[0].heat_map, result.heat_map)


def test_the_heat_map_lies_on_the_original_and_on_the_view(tmp_path: Path) -> None:
    image = grey(0, (96, 64))
    image[60:76, 8:20] = 255
    result = open_predictor(write_bundle(tmp_path / "b", preparation=CROP)).predict(image)
    (view,) = result.views
    assert view.image.shape == (32, 21)
    assert view.heat_map is not None
    assert view.heat_map.shape == view.image.shape
    assert result.heat_map is not None
    assert result.heat_map.shape == image.shape
    assert view.outline is not None
    np.testing.assert_allclose(view.outline, [[-0.5, -0.5], [63.5, -0.5], [63.5, 95.5], [-0.5, 95.5]], atol=1e-6)
    rows, columns = np.indices(image.shape)
    centre = [(axis * result.heat_map).sum() / result.heat_map.sum() for axis in (rows, columns)]
    assert centre == pytest.approx([67.5, 13.5], abs=2.5)


@pytest.mark.usefixtures("_two_hands")
def test_a_radiograph_is_as_anomalous_as_its_worst_view(tmp_path: Path) -> None:
    image = np.hstack([grey(51, (32, 32)), grey(153, (32, 32))])
    result = open_predictor(write_bundle(tmp_path / "b", preparation=CROP)).predict(image)
    assert [view.scores["brightest"] for view in result.views] == pytest.approx([0.2, 0.6], rel=1e-6)
    assert result.value == pytest.approx(0.6, rel=1e-6)
    assert [view.name for view in result.views] == ["view 1", "view 2"]
    assert result.heat_map is not None
    np.testing.assert_allclose(result.heat_map[:, :31], 0.2, rtol=1e-5)
    np.testing.assert_allclose(result.heat_map[:, 33:], 0.6, rtol=1e-5)


def test_stages_are_kept_where_they_are_asked_for(tmp_path: Path) -> None:
    steps = "steps:\n  - inversion\n  - resize: {longest_side: 32}\n"
    predictor = open_predictor(write_bundle(tmp_path / "b", preparation=steps))
    image = np.random.default_rng(0).integers(0, 255, (64, 48)).astype(np.uint8)
    assert predictor.predict(image).views[0].stages == []
    (view,) = predictor.predict(image, stages=True).views
    assert [(name, stage.shape) for name, stage in view.stages] == [("inversion", (64, 48)), ("resize", (32, 24))]
    np.testing.assert_array_equal(view.stages[-1][1], view.image)


def test_flags_of_the_preparation_are_handed_on(tmp_path: Path) -> None:
    steps = "steps:\n  - foreground: {method: flat}\n"
    result = open_predictor(write_bundle(tmp_path / "b", preparation=steps)).predict(grey(7, (64, 64)))
    assert result.flags == result.views[0].flags == ["no_foreground"]


def test_prepared_pictures_can_be_shared(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 48)).astype(np.uint8)
    first, second = (open_predictor(write_bundle(tmp_path / name, preparation=CROP)) for name in "ab")
    assert first.preparation == second.preparation
    assert first.preparation != open_predictor(write_bundle(tmp_path / "c")).preparation
    shared, own = second.predict(image, prepared=first.prepare(image)), second.predict(image)
    assert shared.scores == own.scores
    np.testing.assert_array_equal(shared.heat_map, own.heat_map)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("fp16", 1e-3)])
def test_every_precision_answers(tmp_path: Path, precision: str, tolerance: float) -> None:
    predictor = open_predictor(write_bundle(tmp_path / "b"), precision=precision)
    assert predictor.precision == precision
    assert predictor.predict(grey(100)).value == pytest.approx(100 / 255, rel=tolerance)


def test_bf16_is_computed_where_the_device_can(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b")
    if "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert open_predictor(folder, precision="bf16").predict(grey(100)).value == pytest.approx(100 / 255, rel=1e-2)
    else:
        with pytest.raises(XrayError, match="cannot compute in bf16"):
            open_predictor(folder, precision="bf16")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"precision": "int8"}, r"no precision 'int8' \(AUROC fell by 0\.9 points\); choose one of fp32, fp16, bf16"),
        ({"score": "mse"}, "no score 'mse'; choose one of brightest, mean"),
        ({"device": "TOASTER"}, "no device TOASTER"),
        ({"threads": 0}, "0 threads"),
    ],
)
def test_what_the_bundle_lacks_is_refused(tmp_path: Path, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(XrayError, match=sentence):
        open_predictor(write_bundle(tmp_path / "b"), **settings)


def test_a_stock_export_has_one_precision(make_bundle: Callable[..., Path]) -> None:
    with pytest.raises(XrayError, match="no precision 'fp16'"):
        open_predictor(make_bundle(), precision="fp16")


def test_several_threads_may_ask(tmp_path: Path) -> None:
    predictor = open_predictor(write_bundle(tmp_path / "b", preparation=CROP))
    levels = list(range(10, 250, 8))
    with ThreadPoolExecutor(4) as pool:
        values = [result.value for result in pool.map(predictor.predict, map(grey, levels))]
    np.testing.assert_allclose(values, np.array(levels) / 255, rtol=1e-5)


def test_a_model_without_map(tmp_path: Path) -> None:
    result = open_predictor(write_bundle(tmp_path / "b", with_map=False)).predict(grey(51))
    assert result.heat_map is None
    assert result.views[0].heat_map is None


def replace_model(folder: Path, outputs: Callable[[openvino.Node], dict[str, openvino.Node]]) -> Path:
    """Gives a bundle another model, with the right checksum."""
    picture = ops.parameter([-1, 3, -1, -1], np.float32, name="image")
    results = []
    for name, node in outputs(picture).items():
        result = ops.result(node)
        result.output(0).tensor.set_names({name})
        results.append(result)
    model = openvino.Model(results, [picture], "other")
    openvino.save_model(model, folder / "fp32" / "model.xml", compress_to_fp16=False)
    write_manifest_again(folder)
    return folder


def write_manifest_again(folder: Path) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": checksums(folder)}))
    seal(folder)


AXES = [1, 2, 3]


@pytest.mark.parametrize(
    ("outputs", "sentence"),
    [
        (
            lambda picture: {"pred_score": ops.reduce_max(picture, ops.constant(AXES), False)},
            "gives 1 scores instead of 2",
        ),
        (lambda picture: {"scores": ops.reduce_max(picture, ops.constant(AXES), False)}, "gives 1 scores instead of 2"),
        (lambda picture: {"scores": ops.log(ops.reduce_min(picture, ops.constant([2, 3]), False))}, "no finite score"),
    ],
)
def test_a_model_that_does_not_fit_its_bundle_is_refused(
    tmp_path: Path, outputs: Callable[[openvino.Node], dict[str, openvino.Node]], sentence: str
) -> None:
    scores = ["a", "b", "c"] if "finite" in sentence else ["brightest", "mean"]
    folder = write_bundle(tmp_path / "b", scores=scores, score=scores[0], thresholds={}, distribution={})
    with pytest.raises(XrayError, match=sentence):
        open_predictor(replace_model(folder, outputs)).predict(grey(0))


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ("steps:\n  - hands: {model: /etc/passwd}\n", "names /etc/passwd, which is no file of the bundle"),
        ("steps:\n  - hands: {model: ../fp32/model.xml}\n", "names ../fp32/model.xml"),
        ("steps:\n  - foreground: {method: network, model: net.xml}\n", "names net.xml"),
        ("steps:\n  - foreground: {method: masks, masks: drawn}\n", "names drawn"),
        ("steps:\n  - nothing_of_the_kind\n", "no preparation step 'nothing_of_the_kind'"),
        ("nothing: here\n", "no key 'steps'"),
    ],
)
def test_a_preparation_uses_the_bundles_own_files_only(tmp_path: Path, steps: str, sentence: str) -> None:
    with pytest.raises(XrayError, match=sentence):
        open_predictor(write_bundle(tmp_path / "b", preparation=steps))


def test_a_preparation_with_its_own_network(tmp_path: Path) -> None:
    picture = ops.parameter([1, 1, 16, 16], np.float32)
    path = tmp_path / "net.xml"
    openvino.save_model(openvino.Model([ops.result(ops.relu(picture))], [picture], "net"), path)
    files = {f"preparation/net{ending}": path.with_suffix(ending).read_bytes() for ending in (".xml", ".bin")}
    steps = "steps:\n  - foreground: {method: network, model: net.xml}\n"
    folder = write_bundle(tmp_path / "b", preparation=steps, files=files)
    image = grey(0, (64, 64))
    image[16:48, 16:48] = 200
    assert open_predictor(folder).predict(image).value == pytest.approx(200 / 255, rel=1e-5)
    (folder / "preparation" / "net.json").write_text("{}")
    with pytest.raises(XrayError, match=r"preparation/net\.json, which it does not know"):
        open_predictor(folder)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(-1.0, 0.0), (0.0, 0.0), (0.5, 12.5), (1.0, 25.0), (2.0, 62.5), (3.0, 100.0), (3.1, 100.0)],
)
def test_percentiles_are_interpolated_and_ties_take_their_middle(value: float, expected: float) -> None:
    # Quantiles at 0, 25, 50, 75, 100 %: the level 2 stands at 50 and 75.
    assert RankScale.of_quantiles([0.0, 1.0, 2.0, 2.0, 3.0]).percentile(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("data", "normal", "sentence"),
    [
        ({"normal": 30, "normal_patients": 19}, 19, "percentile 50 (of 19 normal: shares below 5 % mean nothing)"),
        ({"normal": 30}, 30, "percentile 50 (of 30 normal: shares below 3.2 % mean nothing)"),
        ({}, None, "percentile 50"),
    ],
)
def test_a_percentile_says_below_which_share_it_means_nothing(
    data: dict[str, int], normal: int | None, sentence: str, tmp_path: Path
) -> None:
    result = open_predictor(write_bundle(tmp_path, data=data), threads=1).predict(np.full((9, 9), 102, np.uint8))
    assert (result.normal, result.rank) == (normal, sentence)
    assert f", {sentence}, anomalous" in sentence_of(Path("a.png"), {"Tiny": result}, None)
    assert result.finest == (None if normal is None else pytest.approx(100 / (normal + 1)))


def test_percentiles_of_a_constant_distribution() -> None:
    scale = RankScale.of_quantiles([1.0] * 101)
    assert [scale.percentile(value) for value in (0.9, 1.0, 1.1)] == [0.0, 50.0, 100.0]


SHAPE = (20, 30)


def view(top: int, left: int, height: int, width: int) -> Prepared:
    """A part that was cut out of the original."""
    matrix = np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]])
    return Prepared(np.zeros((height, width), np.uint8), (), matrix)


def even(value: float, of: Prepared) -> np.ndarray:
    return np.full(of.image.shape, value, np.float32)


def test_the_original_itself_keeps_its_map_bit_by_bit() -> None:
    heat_map = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    np.testing.assert_array_equal(on_original([heat_map], [Prepared(np.zeros(SHAPE), (), np.eye(3))], SHAPE), heat_map)


def test_a_part_lies_where_it_was_cut_out() -> None:
    part = view(5, 8, 10, 12)
    expected = np.zeros(SHAPE)
    expected[5:15, 8:20] = 3
    np.testing.assert_array_equal(on_original([even(3, part)], [part], SHAPE), expected)


@pytest.mark.parametrize(("first", "second"), [(3.0, 7.0), (7.0, 3.0), (-3.0, -7.0), (-7.0, -3.0), (2.0, -1.0)])
def test_the_larger_value_stands_where_parts_overlap(first: float, second: float) -> None:
    parts = [view(0, 0, 12, 15), view(6, 5, 14, 20)]
    merged = on_original([even(first, parts[0]), even(second, parts[1])], parts, SHAPE)
    expected = np.zeros(SHAPE)
    expected[0:12, 0:15] = first
    expected[6:20, 5:25] = second
    expected[6:12, 5:15] = max(first, second)
    np.testing.assert_array_equal(merged, expected)


def test_three_parts() -> None:
    parts = [view(0, 0, 10, 10), view(0, 5, 10, 10), view(10, 20, 10, 10)]
    merged = on_original([even(value, part) for value, part in zip((1, 5, 2), parts, strict=True)], parts, SHAPE)
    expected = np.zeros(SHAPE)
    expected[:10, :5], expected[:10, 5:15], expected[10:, 20:] = 1, 5, 2
    np.testing.assert_array_equal(merged, expected)


def test_without_map_there_is_none() -> None:
    assert on_original([None], [view(0, 0, *SHAPE)], SHAPE) is None


@pytest.mark.parametrize("scale", [1.0, 0.25, 2.0])
def test_the_outline_of_a_part_is_the_rectangle_that_was_cut_out(scale: float) -> None:
    part = view(5, 8, 10, 12)
    resized = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])
    image = np.zeros((round(10 * scale), round(12 * scale)), np.uint8)
    # 10 / 4 rows are no whole number, so the picture ends a little before the rectangle.
    height, width = image.shape[0] / scale, image.shape[1] / scale
    expected = np.array([[8, 5], [8 + width, 5], [8 + width, 5 + height], [8, 5 + height]]) - 0.5
    np.testing.assert_allclose(outline_of(Prepared(image, (), resized @ part.matrix)), expected, atol=1e-9)
