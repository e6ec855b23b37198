from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph, read_radiograph
from anomalib_xray.io.write import write_png
from anomalib_xray.phantom import render_phantom
from anomalib_xray.preparation.mapping import restore, to_original, to_prepared
from anomalib_xray.preparation.pipeline import Pipeline
from anomalib_xray.preparation.runner import pipeline_of, run
from anomalib_xray.preparation.sources import find_sources
from anomalib_xray.preparation.step import Plan
from anomalib_xray.preparation.steps.upright import Upright


def hand(seed: int, side: str = "L") -> NDArray[np.uint8]:
    return render_phantom(np.random.default_rng(seed), side=side).image


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    """A picture turned clockwise, on a larger canvas, by nearest pixels, so that 0 stays 0."""
    height, width = image.shape
    side = int(np.hypot(height, width)) + 10
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1)
    matrix[:, 2] += (side - width) / 2, (side - height) / 2
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_NEAREST)


def bent(height: int = 400) -> np.ndarray:
    """An arm that enters at the top, with its elbow at the lower left and its thin end to the right."""
    image = np.zeros((height, 500), np.uint8)
    cv2.fillPoly(image, [np.array([[40, 0], [150, 0], [130, 340], [50, 340]])], 120)
    cv2.fillPoly(image, [np.array([[60, 250], [60, 345], [470, 310], [470, 275]])], 120)
    return image


def after(image: Radiograph, step: Upright | None = None) -> tuple[Radiograph, Plan]:
    step = step or Upright()
    plan = step.plan(image)
    return (step.apply(image, plan) if plan.parameters else image), plan


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("degrees", [-150, -70, 35, 90, 180])
def test_a_turned_hand_is_turned_back(seed: int, degrees: int) -> None:
    image = hand(seed)
    own = Upright().plan(image).parameters.get("angle", 0.0)
    _, plan = after(turned(image, degrees))
    assert plan.flags == ()
    # Turned by nearest pixels, and on a canvas that the forearm no longer leaves: not quite the same hand.
    assert (plan.parameters["angle"] + degrees - own + 180) % 360 - 180 == pytest.approx(0, abs=8)
    assert plan.parameters["confidence"] > 0.9


def test_the_forearm_of_a_bent_arm_becomes_vertical_and_its_thin_end_upper() -> None:
    image, plan = after(bent())
    assert plan.parameters["angle"] == pytest.approx(-90, abs=5)
    widths = (image > 0).sum(axis=1)
    assert widths[len(widths) // 4] < widths[-len(widths) // 8]


@pytest.mark.parametrize("image", [hand(4), bent()], ids=["hand", "arm"])
@pytest.mark.parametrize("degrees", [0, 50, 160])
def test_nothing_is_cut_and_the_background_stays_around_it(image: np.ndarray, degrees: int) -> None:
    before = turned(image, degrees)
    picture, plan = after(before)
    assert (picture > 0).sum() == pytest.approx((before > 0).sum(), rel=0.003)
    y, x = np.nonzero(picture)
    height, width = plan.parameters["size"]
    longest = max(np.ptp(x), np.ptp(y))
    for space in (x.min(), y.min(), width - 1 - x.max(), height - 1 - y.max()):
        assert space == pytest.approx(0.02 * longest, abs=3)


@pytest.mark.parametrize("degrees", [17, -100])
def test_a_turned_mask_is_where_the_picture_is(degrees: int) -> None:
    before = turned(hand(7), degrees)
    picture, plan = after(before, Upright(mirror="left"))
    moved = to_prepared(before > 0, Upright().matrix(plan), (picture.shape[0], picture.shape[1]))
    assert (moved != (picture > 0)).sum() <= 0.002 * moved.sum()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("faint", [False, True])
def test_the_rim_does_not_fade(dtype: type[np.uint8] | type[np.uint16], *, faint: bool) -> None:
    level = 1 if faint else np.iinfo(dtype).max
    image = np.where(turned(hand(1), 140) > 0, level, 0)
    picture, _ = after(cast("Radiograph", image.astype(dtype)))
    assert picture.dtype == dtype
    assert set(np.unique(picture).tolist()) == {0, level}


def test_sixteen_bits_are_turned_as_eight_are() -> None:
    image = turned(hand(2), 140)
    picture, plan = after(image)
    deep = Upright().apply(image.astype(np.uint16) * 257, plan)
    np.testing.assert_allclose(deep / 257, picture, atol=0.51)
    np.testing.assert_array_equal(deep > 0, picture > 0)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", [30.0, -135.0])
def test_the_matrix_leads_to_the_same_place(angle: float, *, mirrored: bool) -> None:
    image = np.zeros((400, 300), np.uint8)
    cv2.circle(image, (70, 250), 10, 255, -1)
    plan = Plan({"angle": angle, "mirrored": mirrored, "corner": [-600, -600], "size": [1200, 1200]})
    picture = Upright().apply(image, plan)
    expected = Upright().matrix(plan) @ [70, 250, 1]
    np.testing.assert_allclose(np.argwhere(picture).mean(axis=0)[::-1], expected[:2], atol=0.1)
    clockwise = complex(70, 250) * np.exp(1j * np.deg2rad(angle))  # y points down
    assert expected[0] == pytest.approx(600 + clockwise.real * (-1 if mirrored else 1))
    assert expected[1] == pytest.approx(600 + clockwise.imag)


def test_a_mark_goes_there_and_back() -> None:
    image = turned(hand(3), 125)
    _, plan = after(image)
    heat = np.zeros(plan.parameters["size"], np.float32)
    y, x = np.argwhere(image)[len(np.argwhere(image)) // 2]
    place = Upright().matrix(plan) @ [x, y, 1]
    cv2.circle(heat, tuple(np.rint(place[:2]).astype(int).tolist()), 6, 1.0, -1)
    back = to_original(heat, Upright().matrix(plan), (image.shape[0], image.shape[1]))
    np.testing.assert_allclose(np.argwhere(back > 0.5).mean(axis=0), [y, x], atol=1)


def test_a_hand_that_is_upright_passes() -> None:
    picture, _ = after(turned(hand(5), 120))
    assert Upright().plan(picture) == Plan()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((50, 40), np.uint8),
        np.full((50, 40), 9, np.uint8),
        np.full((1, 1), 9, np.uint8),
        np.full((3, 900), 9, np.uint16),
        cv2.circle(np.zeros((200, 200), np.uint8), (100, 100), 80, 99, -1),
        cv2.rectangle(np.zeros((200, 90), np.uint8), (20, 0), (60, 199), 99, -1),
    ],
    ids=["black", "grey", "pixel", "strip", "disc", "bar"],
)
def test_what_has_no_distal_end_passes_with_a_flag(image: Radiograph) -> None:
    assert Upright(mirror="left").plan(image) == Plan(flags=("upright_unsure",))


@pytest.mark.parametrize("seed", range(3))
def test_right_hands_are_mirrored_and_left_ones_are_not(seed: int) -> None:
    step = Upright(mirror="left")
    _, left = after(turned(hand(seed, "L"), 100), step)
    assert left.flags == ()
    assert not left.parameters["mirrored"]
    picture, right = after(turned(hand(seed, "R"), 100), step)
    assert right.flags == ("mirrored",)
    assert right.parameters["mirrored"]
    assert "mirrored" not in step.plan(picture).flags, "its thumb is on the right now"
    assert Upright().plan(turned(hand(seed, "R"), 100)).flags == (), "nothing is mirrored unless asked for"


def test_the_input_stays_and_the_plan_is_json() -> None:
    image = turned(hand(0), 60)
    before = image.copy()
    _, plan = after(image)
    np.testing.assert_array_equal(image, before)
    assert json.loads(json.dumps(dict(plan.parameters))) == plan.parameters
    assert set(plan.parameters) == {"angle", "confidence", "mirrored", "corner", "size"}


def test_pictures_are_replayed_and_heat_maps_go_back(tmp_path: Path) -> None:
    image = turned(hand(6), -80)
    raw, out, again = tmp_path / "raw", tmp_path / "out", tmp_path / "again"
    write_png(raw / "a.png", image)
    pipeline = Pipeline([{"upright": {}}, {"resize": {"longest_side": 256}}])
    assert run(pipeline, raw, out, find_sources(raw, out)).done == {"prepared": 1}
    assert run(pipeline_of(out), raw, again, find_sources(raw, again), replay=out).done == {"prepared": 1}
    assert (out / "a.png").read_bytes() == (again / "a.png").read_bytes()
    write_png(tmp_path / "heat" / "a.png", (read_radiograph(out / "a.png") > 0).astype(np.uint8) * np.uint8(255))
    assert restore(tmp_path / "heat", tmp_path / "back", out) == 0
    back = read_radiograph(tmp_path / "back" / "a.png") > 127
    assert (back & (image > 0)).sum() / (back | (image > 0)).sum() > 0.97


@pytest.mark.parametrize("settings", [{"mirror": "right"}, {"margin": -0.1}, {"margin": 2}])
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(XrayError, match=next(iter(settings))):
        Upright(**settings)  # type: ignore[arg-type]
