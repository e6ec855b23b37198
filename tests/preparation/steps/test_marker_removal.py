from __future__ import annotations

import importlib.util
import json
import warnings
from itertools import chain

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.phantom import Phantom, SceneOptions, render_phantom
from anomalib_xray.preparation import text_detector
from anomalib_xray.preparation.step import Plan
from anomalib_xray.preparation.steps.marker_removal import MarkerRemoval
from anomalib_xray.preparation.view import to_8_bit

NO_TEXT = pytest.mark.skipif(importlib.util.find_spec("rapidocr") is None, reason="rapidocr is not installed")
DETECTORS = ["bright", pytest.param("text", marks=NO_TEXT)]


def phantom(seed: int, marker: float = 1.0, carrier: float = 0.0) -> Phantom:
    return render_phantom(np.random.default_rng(seed), SceneOptions(prepared=False, marker=marker, carrier=carrier))


def letters(scene: Phantom) -> NDArray[np.bool_]:
    """The bright pixels (H, W) in the marker boxes, beside the hands."""
    found = np.zeros(scene.image.shape, np.bool_)
    for x0, y0, x1, y1 in scene.marker_boxes:
        inside = scene.image[y0:y1, x0:x1]
        middle = (int(inside.min()) + int(inside.max())) / 2
        found[y0:y1, x0:x1] = (inside > middle) & ~scene.foreground[y0:y1, x0:x1]
    return found


def filled(plan: Plan, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.uint8)
    for polygon in plan.parameters.get("polygons", []):
        cv2.fillPoly(mask, [np.rint(polygon).astype(np.int32)], 1)
    return mask > 0


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("seed", [0, 2, 3, 5])
def test_markers_go_and_hands_stay(detector: str, seed: int) -> None:
    scene, step = phantom(seed), MarkerRemoval(detector)
    assert scene.marker_boxes
    plan = step.plan(scene.image)
    assert "markers_removed" in plan.flags
    after = step.apply(scene.image, plan)
    lead = letters(scene)
    assert filled(plan, scene.image.shape)[lead].mean() >= 0.8
    np.testing.assert_array_equal(after[scene.foreground], scene.image[scene.foreground])
    background = np.median(scene.image[~scene.foreground & ~lead])
    # What is left is the plastic that the letters are on.
    assert after[lead].mean() - background < 0.25 * (scene.image[lead].mean() - background)


@pytest.mark.parametrize("detector", DETECTORS)
def test_depth_is_kept_and_the_original_unchanged(detector: str) -> None:
    scene, step = phantom(0), MarkerRemoval(detector)
    deep = scene.image.astype(np.uint16) * 257
    before = deep.copy()
    plan = step.plan(deep)
    after = step.apply(deep, plan)
    assert after.dtype == np.uint16
    assert after.shape == deep.shape
    np.testing.assert_array_equal(deep, before)
    assert plan == step.plan(to_8_bit(deep))
    changed = after != deep
    assert changed.any()
    assert not (changed & ~filled(plan, deep.shape)).any()


def test_the_plan_is_json_and_the_same_each_time() -> None:
    scene = phantom(2)
    plan = MarkerRemoval("bright").plan(scene.image)
    assert json.loads(json.dumps(plan.parameters)) == plan.parameters
    assert plan == MarkerRemoval("bright").plan(scene.image.copy())


def test_a_large_picture_has_the_polygons_of_the_small_one() -> None:
    scene = phantom(0)
    large = cv2.resize(scene.image, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    step = MarkerRemoval("bright")
    small_plan, large_plan = step.plan(scene.image), step.plan(large)
    # Pixel centres have whole coordinates: x becomes 3 x + 1.
    expected = np.array(small_plan.parameters["polygons"]) * 3 + 1
    np.testing.assert_allclose(large_plan.parameters["polygons"], expected, atol=9)
    after = step.apply(large, large_plan)
    lead = cv2.resize(letters(scene).astype(np.uint8), large.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    assert after[lead].mean() < 0.5 * large[lead].mean()


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_picture_without_markers_passes(detector: str) -> None:
    assert MarkerRemoval(detector).plan(phantom(7, marker=0).image) == Plan()


def test_letters_on_the_hand_stay() -> None:
    scene = phantom(7, marker=0)
    image = scene.image.copy()
    rows, columns = np.nonzero(scene.foreground)
    middle = (int(np.median(columns)) - 15, int(np.median(rows)) + 10)
    cv2.putText(image, "L", middle, cv2.FONT_HERSHEY_SIMPLEX, 1, 255, 4)
    plan = MarkerRemoval("bright").plan(image)
    assert not (filled(plan, image.shape) & scene.foreground).any()


def test_a_box_that_reaches_the_hand_is_clipped(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = phantom(7, marker=0)
    rows, columns = np.nonzero(scene.foreground)
    y = int(np.median(rows))
    x = int(columns[rows == y].min())
    box = np.array([[x - 40, y - 10], [x + 6, y - 10], [x + 6, y + 10], [x - 40, y + 10]], np.float32)
    step = MarkerRemoval("bright", margin=0)
    monkeypatch.setattr(type(step._detectors[0]), "detect", lambda *_: [box])
    plan = step.plan(scene.image)
    assert plan.flags == ("markers_removed", "marker_near_body")
    covered = filled(plan, scene.image.shape)
    assert covered[y, x - 30]
    assert not (covered & scene.foreground).any()


def test_a_box_around_everything_is_no_marker(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = phantom(7, marker=0)
    height, width = scene.image.shape
    box = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    step = MarkerRemoval("bright")
    monkeypatch.setattr(type(step._detectors[0]), "detect", lambda *_: [box])
    assert step.plan(scene.image) == Plan()


SHAPES = [(1, 1), (1, 40), (40, 1), (2, 3), (31, 33), (300, 500)]


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pictures_that_show_nothing_pass(detector: str, dtype: type[np.integer]) -> None:
    step = MarkerRemoval(detector)
    noise = np.random.default_rng(0)
    for shape in SHAPES:
        pictures = chain(
            (np.full(shape, level, dtype) for level in (0, 100, np.iinfo(dtype).max)),
            [noise.integers(0, np.iinfo(dtype).max, shape, dtype)],
        )
        for picture in pictures:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                plan = step.plan(picture)
                if plan.parameters:
                    assert step.apply(picture, plan).shape == shape
                else:
                    assert plan.flags in ((), ("body_unclear",))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiny_pictures_can_be_filled(shape: tuple[int, int], dtype: type[np.integer]) -> None:
    image = np.full(shape, 7, dtype)
    corner = {"polygons": [[[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]]}
    after = MarkerRemoval("bright").apply(image, Plan(corner))
    assert after.dtype == dtype
    assert after.shape == shape


def test_none_looks_for_nothing() -> None:
    step = MarkerRemoval("none")
    assert step.plan(phantom(0).image) == Plan()
    assert step.fingerprint("a.png") == ""


def test_without_the_extra_text_is_refused_and_auto_says_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_detector.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(XrayError, match=r"pip install 'anomalib-xray\[text\]'"):
        MarkerRemoval("text")
    scene = phantom(0)
    alone = MarkerRemoval("auto")
    assert alone.fingerprint("a.png") == MarkerRemoval("bright").fingerprint("a.png")
    plan, chosen = alone.plan(scene.image), MarkerRemoval("bright").plan(scene.image)
    assert plan.parameters == chosen.parameters
    assert plan.flags == (*chosen.flags, "markers_by_fallback")


def test_auto_uses_both_detectors_where_it_can() -> None:
    pytest.importorskip("rapidocr")
    both = MarkerRemoval("auto")
    for detector in ("text", "bright"):
        assert MarkerRemoval(detector).fingerprint("a.png") in both.fingerprint("b.png")
    assert "PP-OCRv6" in both.fingerprint("a.png")
    assert MarkerRemoval("text").fingerprint("a.png") != both.fingerprint("a.png")
    scene = phantom(0)
    plan = both.plan(scene.image)
    assert "markers_by_fallback" not in plan.flags
    assert filled(plan, scene.image.shape)[letters(scene)].mean() >= 0.8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"detector": "ocr"}, "detector must be one of auto, text, bright, none, not 'ocr'"),
        ({"detector": "bright", "margin": -0.1}, "margin"),
        ({"detector": "bright", "margin": float("nan")}, "margin"),
        ({"detector": "bright", "margin": float("inf")}, "margin"),
        ({"detector": "bright", "largest": 0}, "largest"),
        ({"detector": "bright", "largest": 1.5}, "largest"),
    ],
)
def test_impossible_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(XrayError, match=message):
        MarkerRemoval(**settings)


@pytest.mark.slow
def test_nearly_every_marker_is_found_and_no_hand_is_touched() -> None:
    step, shares, touched = MarkerRemoval("bright"), [], []
    for seed in range(100, 140):
        scene = phantom(seed)
        covered = filled(step.plan(scene.image), scene.image.shape)
        if scene.marker_boxes:
            shares.append(covered[letters(scene)].mean())
        touched.append((covered & scene.foreground).sum() / scene.foreground.sum())
    assert np.mean(np.array(shares) >= 0.8) >= 0.97
    assert np.mean(touched) <= 0.001


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_filling_around_each_marker_is_that_of_the_whole_picture(dtype: type[np.integer]) -> None:
    noise = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (200, 300), dtype)
    image = cv2.GaussianBlur(noise, (0, 0), 2)
    corners = [[0, 0, 30, 20], [50, 50, 90, 80], [70, 70, 120, 90], [240, 150, 299, 199]]
    plan = Plan({"polygons": [[[x, y], [right, y], [right, below], [x, below]] for x, y, right, below in corners]})
    whole = cv2.inpaint(image, filled(plan, image.shape).astype(np.uint8), 3, cv2.INPAINT_TELEA)
    np.testing.assert_array_equal(MarkerRemoval("none").apply(image, plan), whole)
