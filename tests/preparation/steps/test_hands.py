from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.phantom import RAW, SceneOptions, render_phantom
from anomalib_xray.preparation.detector import Detector
from anomalib_xray.preparation.step import Plan
from anomalib_xray.preparation.steps.hands import Hands, divide

TWO = SceneOptions(prepared=False, second_hand=1.0)
TOUCHING = SceneOptions(prepared=False, second_hand=1.0, touching=1.0)


def masked(seed: int, options: SceneOptions) -> tuple[np.ndarray, tuple[tuple[int, int, int, int], ...]]:
    """A phantom after a perfect foreground step, and the boxes of its hands."""
    phantom = render_phantom(np.random.default_rng(seed), options)
    return np.where(phantom.foreground, np.maximum(phantom.image, 1), 0).astype(np.uint8), phantom.hand_boxes


def prepared(step: Hands, image: np.ndarray) -> list[np.ndarray]:
    return [step.apply(image, part) for part in step.parts(step.plan(image))]


def without_masks(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_masks(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_masks(item) for item in value]
    if isinstance(value, np.ndarray):
        assert value.dtype == np.bool_
        return list(value.shape)
    return value


@pytest.mark.parametrize("seed", range(6))
def test_one_hand_is_cropped_to_its_box(seed: int) -> None:
    image, ((x0, y0, x1, y1),) = masked(seed, SceneOptions(landscape=0.4))
    plan = Hands(margin=0).plan(image)
    assert plan.flags == ()
    (part,) = Hands(margin=0).parts(plan)
    assert (Hands(margin=0).apply(image, part) == image[y0:y1, x0:x1]).all()


@pytest.mark.parametrize("seed", range(4))
def test_two_hands_become_two_pictures_from_left_to_right(seed: int) -> None:
    image, boxes = masked(seed, TWO)
    step = Hands(margin=0)
    plan = step.plan(image)
    assert "two_hands" in plan.flags
    assert "hands_touching" not in plan.flags
    for part, box in zip(step.parts(plan), boxes, strict=True):
        assert part.parameters["hands"][0]["box"] == list(box)
    first, second = prepared(step, image)
    assert (first > 0).sum() + (second > 0).sum() == (image > 0).sum()


@pytest.mark.parametrize("seed", range(6))
def test_hands_that_touch_are_cut_apart(seed: int) -> None:
    image, boxes = masked(seed, TOUCHING)
    step = Hands(margin=0)
    plan = step.plan(image)
    assert plan.flags[:2] == ("two_hands", "hands_touching")
    for part, box in zip(step.parts(plan), boxes, strict=True):
        assert part.parameters["hands"][0]["box"] == pytest.approx(box, abs=12)
    assert sum((hand > 0).sum() for hand in prepared(step, image)) == (image > 0).sum()


def test_what_belongs_to_the_other_hand_becomes_background() -> None:
    image = np.zeros((80, 100), np.uint8)
    cv2.fillPoly(image, [np.array([[5, 5], [5, 75], [60, 75]])], 100)
    cv2.fillPoly(image, [np.array([[95, 75], [95, 5], [40, 5]])], 200)
    left, right = prepared(Hands(margin=0), image)
    assert set(np.unique(left)) == {0, 100}
    assert set(np.unique(right)) == {0, 200}
    assert left.shape == (71, 56)


def test_the_margin_is_background_and_stays_in_the_picture() -> None:
    image, ((x0, y0, x1, y1),) = masked(1, SceneOptions(landscape=0.0))
    (box,) = (hand["box"] for hand in Hands(margin=0.1).plan(image).parameters["hands"])
    height, width = image.shape
    reach = round(0.1 * max(x1 - x0, y1 - y0))
    assert box == [max(x0 - reach, 0), max(y0 - reach, 0), min(x1 + reach, width), min(y1 + reach, height)]
    (hand,) = prepared(Hands(margin=0.1), image)
    assert (hand > 0).sum() == (image > 0).sum()


def test_the_matrix_leads_to_the_crop() -> None:
    image, _ = masked(3, TWO)
    step = Hands()
    for part in step.parts(step.plan(image)):
        hand = step.apply(image, part)
        row, column = np.argwhere(hand > 0)[0]
        x, y, _ = np.linalg.inv(step.matrix(part)) @ (column, row, 1)
        assert image[round(y), round(x)] == hand[row, column]


def test_depth_is_kept_and_the_picture_is_not_changed() -> None:
    image, _ = masked(2, TWO)
    deep = image.astype(np.uint16) * 257
    before = deep.copy()
    step = Hands()
    for shallow_hand, deep_hand in zip(prepared(step, image), prepared(step, deep), strict=True):
        assert deep_hand.dtype == np.uint16
        assert (deep_hand == shallow_hand.astype(np.uint16) * 257).all()
    assert (deep == before).all()


def test_a_large_picture_keeps_every_pixel_of_its_hands() -> None:
    image, _ = masked(2, TOUCHING)
    large = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)
    hands = prepared(Hands(), large)
    assert len(hands) == 2
    assert sum((hand > 0).sum() for hand in hands) == (large > 0).sum()


def test_the_plan_is_made_of_json_values_and_masks_and_is_repeated() -> None:
    image, _ = masked(5, TOUCHING)
    first, second = Hands().plan(image), Hands().plan(image)
    assert json.dumps(without_masks(dict(first.parameters))) == json.dumps(without_masks(dict(second.parameters)))
    for one, other in zip(first.parameters["hands"], second.parameters["hands"], strict=True):
        assert (one["mask"] == other["mask"]).all()
        x0, y0, x1, y1 = one["box"]
        assert one["mask"].shape == (y1 - y0, x1 - x0)


def test_a_part_has_itself_as_its_only_part() -> None:
    image, _ = masked(5, TWO)
    step = Hands()
    second = step.parts(step.plan(image))[1]
    (again,) = step.parts(second)
    assert (step.apply(image, again) == step.apply(image, second)).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2), (40, 60), (900, 700)])
@pytest.mark.parametrize("level", [0, 1, 255])
def test_pictures_without_foreground_pass(shape: tuple[int, int], level: int) -> None:
    assert Hands().plan(np.full(shape, level, np.uint8)) == Plan(flags=("no_hand",))


@pytest.mark.parametrize("seed", range(3))
def test_pictures_that_nobody_masked_pass(seed: int) -> None:
    phantom = render_phantom(np.random.default_rng(seed), RAW)
    assert Hands().plan(phantom.image | 1) == Plan(flags=("no_hand",))


def test_noise_is_no_hand() -> None:
    image = (np.random.default_rng(0).random((300, 300)) < 0.05).astype(np.uint8)
    assert Hands().plan(image).flags == ("no_hand",)


def test_crumbs_are_dropped_and_large_parts_kept() -> None:
    image, _ = masked(0, SceneOptions(landscape=0.0))
    alone = (image > 0).sum()
    size = round((0.1 * alone) ** 0.5)
    corner = np.zeros_like(image)
    # A triangle, because rectangles are plates.
    cv2.fillPoly(corner, [np.array([[0, 0], [size, 0], [0, size]])], 50)
    with_crumb = np.where(image > 0, image, corner)
    assert len(Hands().plan(with_crumb).parameters["hands"]) == 1
    assert len(Hands(smallest=0.04).plan(with_crumb).parameters["hands"]) == 2


def test_three_hands_are_flagged() -> None:
    image, _ = masked(0, TWO)
    third, _ = masked(1, SceneOptions(landscape=0.0))
    third = third[: image.shape[0]]
    wide = np.concatenate([image, np.zeros_like(image[:, :5]), third], axis=1)
    plan = Hands().plan(np.pad(wide, ((0, third.shape[0] - wide.shape[0]), (0, 0))))
    assert "several_hands" in plan.flags
    assert len(plan.parameters["hands"]) == 3


def test_a_small_hand_is_flagged() -> None:
    image, _ = masked(0, SceneOptions(landscape=0.0))
    small = np.pad(cv2.resize(image, None, fx=0.3, fy=0.3, interpolation=cv2.INTER_NEAREST), 150)
    plan = Hands().plan(small)
    assert plan.flags == ("small_hand",)
    assert len(plan.parameters["hands"]) == 1


def test_a_hand_that_leaves_the_picture_twice_is_flagged() -> None:
    image, ((_, y0, _, _),) = masked(2, SceneOptions(landscape=0.0))
    assert "hand_cut" not in Hands().plan(image).flags
    assert "hand_cut" in Hands().plan(image[y0 + 20 :]).flags
    ragged = image.copy()
    ragged[-1, np.nonzero(image[-1])[0][3:-3:4]] = 0
    assert "hand_cut" not in Hands().plan(ragged).flags


def test_a_forearm_may_leave_the_picture_at_a_corner() -> None:
    image, _ = masked(2, SceneOptions(landscape=0.0))
    forearm = np.nonzero(image[-1])[0]
    assert "hand_cut" not in Hands().plan(image[:, : forearm.mean().astype(int)]).flags


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "ssd"}, "method"),
        ({"margin": -0.1}, "margin"),
        ({"margin": 1.1}, "margin"),
        ({"smallest": 0.0}, "smallest"),
        ({"threshold": 2.0}, "threshold"),
        ({"method": "detector"}, "model"),
        ({"model": "model.xml"}, "model"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(XrayError, match=words):
        Hands(**settings)


def test_settings_travel_to_other_processes() -> None:
    image, _ = masked(0, TWO)
    copy = pickle.loads(pickle.dumps(Hands(margin=0.05)))
    assert [hand.shape for hand in prepared(copy, image)] == [
        hand.shape for hand in prepared(Hands(margin=0.05), image)
    ]
    assert copy.fingerprint("image1.png") == ""


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> Hands:
    """A step whose detector finds the boxes of the phantom with seed 4, a little too small ones."""
    _, boxes = masked(4, TOUCHING)
    found = [np.add(box, (6, 6, -6, -6)) for box in boxes]
    monkeypatch.setattr(Detector, "boxes", lambda _, view: found if view.any() else [])
    return Hands(method="detector", model=Path("model.xml"), margin=0)


def test_a_detector_parts_touching_hands(detector: Hands) -> None:
    image, boxes = masked(4, TOUCHING)
    plan = detector.plan(image)
    assert plan.flags[:2] == ("two_hands", "hands_touching")
    for part, box in zip(detector.parts(plan), boxes, strict=True):
        assert part.parameters["hands"][0]["box"] == pytest.approx(box, abs=12)


def test_a_detector_crops_pictures_that_nobody_masked(detector: Hands) -> None:
    phantom = render_phantom(np.random.default_rng(4), TOUCHING)
    image = phantom.image | 1
    for hand, box in zip(prepared(detector, image), phantom.hand_boxes, strict=True):
        assert hand.shape == pytest.approx((box[3] - box[1] - 12, box[2] - box[0] - 12), abs=12)
        assert (hand > 0).mean() > 0.9


def test_a_detector_that_finds_nothing_lets_the_picture_pass(detector: Hands) -> None:
    assert detector.plan(np.zeros((60, 50), np.uint16)) == Plan(flags=("no_hand",))


def test_a_detector_without_file_is_named() -> None:
    step = Hands(method="detector", model=Path("nowhere/model.xml"))
    with pytest.raises(XrayError, match=r"nowhere.model\.xml"):
        step.fingerprint("image1.png")
    with pytest.raises(XrayError, match=r"nowhere.model\.xml"):
        step.plan(np.ones((60, 50), np.uint8))


def discs(*centres: tuple[int, int]) -> np.ndarray:
    plane = np.zeros((100, 200), np.uint8)
    for centre in centres:
        cv2.circle(plane, centre, 30, 1, cv2.FILLED)
    return plane > 0


def box(*corners: float) -> np.ndarray:
    return np.array(corners, float)


def test_a_part_belongs_as_a_whole_to_the_box_that_holds_it() -> None:
    foreground = discs((50, 50), (150, 50))
    labels, touching = divide(foreground, [box(130, 25, 190, 80), box(25, 25, 70, 70)])
    assert not touching
    assert (labels == np.where(foreground, 1 + (np.arange(200) > 100), 0)).all()


def test_a_part_without_box_is_dropped() -> None:
    foreground = discs((50, 50), (150, 50))
    labels, _ = divide(foreground, [box(20, 20, 80, 80)])
    assert (labels == discs((50, 50))).all()


def test_a_part_that_two_boxes_hold_is_divided_between_them() -> None:
    foreground = discs((75, 50), (125, 50))
    labels, touching = divide(foreground, [box(45, 20, 105, 81), box(95, 20, 155, 81)])
    assert touching
    assert ((labels > 0) == foreground).all()
    assert (labels[:, :99] != 2).all()
    assert (labels[:, 101:] != 1).all()


def test_the_edge_of_another_box_takes_nothing() -> None:
    foreground = discs((50, 50), (150, 50))
    labels, touching = divide(foreground, [box(20, 20, 81, 81), box(70, 20, 181, 81)])
    assert not touching
    assert (labels[foreground] == np.where(np.nonzero(foreground)[1] < 100, 1, 2)).all()


def test_a_picture_without_mask_is_cut_at_the_boxes() -> None:
    labels, touching = divide(np.ones((100, 200), np.bool_), [box(10, 20, 60, 90)])
    expected = np.zeros((100, 200), np.int32)
    expected[20:90, 10:60] = 1
    assert not touching
    assert (labels == expected).all()


def test_boxes_without_foreground_and_no_boxes_give_no_hand() -> None:
    assert not divide(discs((50, 50)), [])[0].any()
    assert not divide(discs((50, 50)), [box(150, 10, 190, 90)])[0].any()
    assert not divide(np.zeros((4, 4), np.bool_), [box(0, 0, 4, 4)])[0].any()
