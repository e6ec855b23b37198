from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph
from anomalib_xray.phantom import Phantom, SceneOptions, render_phantom
from anomalib_xray.preparation.steps.carrier_crop import CarrierCrop, Method, find_carrier

SIZE = (240, 160)
"""Height and width of the plate on :func:`on_carrier`."""


@pytest.fixture(scope="module")
def tilted() -> list[Phantom]:
    options = SceneOptions(prepared=False, carrier=1.0, marker=0.8)
    return [render_phantom(np.random.default_rng(seed), options) for seed in range(6)]


def on_carrier(degrees: float = 9, dtype: type[np.uint8 | np.uint16] = np.uint8) -> Radiograph:
    """A plate with a bright upper left corner, 0.4 of its sides, on black surroundings."""
    film = np.full(SIZE, 100, np.float32)
    film[: SIZE[0] * 2 // 5, : SIZE[1] * 2 // 5] = 200
    film += np.random.default_rng(0).normal(0, 2, SIZE).astype(np.float32)
    turn = cv2.getRotationMatrix2D(((SIZE[1] - 1) / 2, (SIZE[0] - 1) / 2), -degrees, 1)
    turn[:, 2] += 60, 50
    picture = cv2.warpAffine(film, turn, (280, 340), flags=cv2.INTER_LINEAR)
    return np.rint(picture * (np.iinfo(dtype).max / 255)).astype(dtype)


def cropped(image: Radiograph, step: CarrierCrop) -> Radiograph:
    return step.apply(image, step.plan(image))


@pytest.mark.parametrize("degrees", [-14, -3, 0, 3, 14])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_plate_comes_out_upright(degrees: float, dtype: type[np.uint8 | np.uint16]) -> None:
    crop = cropped(on_carrier(degrees, dtype), CarrierCrop(margin=0))
    assert crop.dtype == dtype
    assert crop.shape == pytest.approx(SIZE, abs=4)
    height, width = crop.shape
    levels = crop / (np.iinfo(dtype).max / 255)
    assert levels[10 : height * 2 // 5 - 6, 10 : width * 2 // 5 - 6].min() > 185
    assert levels[10:-10, width * 2 // 5 + 6 : -10].max() < 115
    assert levels[height * 2 // 5 + 6 : -10, 10:-10].max() < 115


def test_a_margin_leaves_nothing_of_the_surroundings(tilted: list[Phantom]) -> None:
    for phantom in tilted:
        step = CarrierCrop()
        plan = step.plan(phantom.image)
        on_plate = np.zeros(phantom.image.shape, np.uint8)
        cv2.fillConvexPoly(on_plate, np.rint(phantom.carrier_corners).astype(np.int32), 255)
        assert step.apply(on_plate, plan).mean() > 254.5
        kept = step.apply(phantom.foreground.astype(np.uint8), plan).sum()
        assert kept == pytest.approx(phantom.foreground.sum(), rel=0.03), (
            "the hand stays, up to the margin at its wrist"
        )


def test_the_margin_is_a_share_of_the_shorter_side() -> None:
    image = on_carrier()
    whole, trimmed = (
        np.array(CarrierCrop(margin=margin, frames=1).plan(image).parameters["size"]) for margin in (0, 0.1)
    )
    np.testing.assert_allclose(whole - trimmed, 0.2 * whole.min(), atol=1)


def test_the_matrix_leads_to_the_pixels_that_apply_makes() -> None:
    image = on_carrier().astype(np.uint16) * 100
    cv2.circle(image, (120, 200), 6, 65535, -1)
    step = CarrierCrop()
    plan = step.plan(image)
    crop = step.apply(image, plan)
    expected = step.matrix(plan) @ [120, 200, 1]
    centre = np.argwhere(crop > 50000).mean(axis=0)[::-1]
    np.testing.assert_allclose(centre, expected[:2] / expected[2], atol=0.3)
    height, width = plan.parameters["size"]
    ends = np.column_stack([plan.parameters["corners"], np.ones(4)]) @ step.matrix(plan).T
    targets = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
    np.testing.assert_allclose(ends[:, :2] / ends[:, 2:], targets, atol=0.02)


def test_large_pictures_are_cut_at_full_resolution(tilted: list[Phantom]) -> None:
    film = tilted[0].image
    large = cv2.resize(film, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
    step = CarrierCrop(margin=0)
    corners = np.array(step.plan(np.asarray(large, np.uint8)).parameters["corners"])
    truth = np.array(tilted[0].carrier_corners) * 4 + 1.5
    assert np.linalg.norm(corners - truth, axis=1).max() < 16
    assert min(step.plan(np.asarray(large, np.uint8)).parameters["size"]) > max(film.shape)


def test_a_film_on_a_film_is_cut_out_twice() -> None:
    film = on_carrier(5)
    film = np.maximum(film, 30) + np.random.default_rng(0).integers(0, 3, film.shape).astype(np.uint8)
    double = np.pad(film, 80)
    once, twice = (CarrierCrop(frames=frames, margin=0).plan(double).parameters["size"] for frames in (1, 2))
    assert once == pytest.approx(film.shape, abs=3)
    assert twice == pytest.approx(SIZE, abs=4)


def test_portrait_turns_lying_carriers_clockwise() -> None:
    lying = np.ascontiguousarray(np.rot90(on_carrier(9)))
    upright = cropped(lying, CarrierCrop())
    turned = cropped(lying, CarrierCrop(portrait=True))
    assert upright.shape[1] > upright.shape[0]
    np.testing.assert_allclose(turned.astype(float), np.rot90(upright, -1), atol=3)
    standing = on_carrier(9)
    np.testing.assert_array_equal(cropped(standing, CarrierCrop(portrait=True)), cropped(standing, CarrierCrop()))


def test_the_input_stays_and_the_plan_is_the_same_json_again() -> None:
    image = on_carrier()
    before = image.copy()
    step = CarrierCrop()
    plan = step.plan(image)
    step.apply(image, plan)
    np.testing.assert_array_equal(image, before)
    assert step.plan(image) == plan
    assert plan.flags == ()
    assert json.loads(json.dumps(dict(plan.parameters))) == plan.parameters


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (40, 30), (1, 40000)])
def test_pictures_without_a_carrier_pass(shape: tuple[int, int], dtype: type[np.uint8 | np.uint16]) -> None:
    for level in (0, 100, np.iinfo(dtype).max):
        plan = CarrierCrop().plan(np.full(shape, level, dtype))
        assert not plan.parameters
        assert plan.flags == ()


def test_a_carrier_that_leaves_the_picture_gets_no_black_corner() -> None:
    crop = cropped(on_carrier(12)[30:, 40:], CarrierCrop())
    assert crop.min() > 60


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "other"}, "'other'; choose one of ladder, otsu, contours"),
        ({"frames": 0}, "frames is 0"),
        ({"margin": 0.5}, "margin is 0.5"),
        ({"margin": float("nan")}, "margin is nan"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(XrayError, match=message):
        CarrierCrop(**settings)


View = NDArray[np.uint8]
METHODS: tuple[Method, ...] = ("ladder", "otsu", "contours")


def scenes(carrier: float, seeds: range) -> list[Phantom]:
    options = SceneOptions(prepared=False, carrier=carrier, marker=0.8, second_hand=0.1, inverted=0.1)
    return [render_phantom(np.random.default_rng(seed), options) for seed in seeds]


@pytest.fixture(scope="module")
def tilted_scenes() -> list[Phantom]:
    return scenes(1.0, range(1000, 1014))


@pytest.fixture(scope="module")
def bare() -> list[Phantom]:
    return scenes(0.0, range(2000, 2012))


def plate(level: int, surroundings: int, degrees: float = 7, share: float = 0.6) -> tuple[View, NDArray[np.float64]]:
    """A grainy plate on even surroundings, and its corners."""
    view = np.full((400, 300), surroundings, np.uint8)
    side = (share * view.size) ** 0.5
    box = cv2.boxPoints(((150, 200), (side * 0.8, side * 1.25), degrees))
    inside = cv2.fillConvexPoly(np.zeros_like(view), np.rint(box).astype(np.int32), 1)
    view[inside > 0] = level
    grain = np.random.default_rng(0).normal(0, 3, view.shape) * inside
    return np.clip(view + grain, 0, 255).astype(np.uint8), np.asarray(box, float)


def largest_error(found: NDArray[np.float64] | None, truth: object) -> float:
    assert found is not None
    return float(np.linalg.norm(found - np.array(truth), axis=1).max())


def test_tilted_carriers_of_phantoms_are_found(tilted_scenes: list[Phantom]) -> None:
    for phantom in tilted_scenes:
        for view in (phantom.image, 255 - phantom.image):
            assert largest_error(find_carrier(view, "ladder"), phantom.carrier_corners) < 4


def test_films_without_a_carrier_have_none(bare: list[Phantom]) -> None:
    assert [find_carrier(phantom.image, "ladder") for phantom in bare] == [None] * len(bare)


def test_a_carrier_as_dark_as_its_surroundings_is_found_by_its_grain() -> None:
    view, corners = plate(level=4, surroundings=4)
    found = find_carrier(view, "ladder")
    assert found is not None
    assert all(np.linalg.norm(corners - corner, axis=1).min() < 4 for corner in found)


@pytest.mark.parametrize("level", [30, 220])
@pytest.mark.parametrize("degrees", [-12, 0, 12])
def test_corners_start_top_left_and_go_clockwise(degrees: float, level: int) -> None:
    view, _ = plate(level, surroundings=120, degrees=degrees)
    corners = find_carrier(view, "ladder")
    assert corners is not None
    across, down = corners[1] - corners[0], corners[3] - corners[0]
    assert across[0] > 4 * abs(across[1])
    assert down[1] > 0
    assert np.cross([*across, 0], [*down, 0])[2] > 0
    assert np.rad2deg(np.arctan2(across[1], across[0])) == pytest.approx(degrees, abs=1)


def test_a_dark_film_with_a_hand_from_its_bright_surroundings_is_found() -> None:
    view, corners = plate(level=30, surroundings=150, degrees=4)
    cv2.ellipse(view, (150, 330), (45, 190), 0, 0, 360, 180, -1)
    found = find_carrier(view, "ladder")
    assert found is not None
    assert all(np.linalg.norm(corners - corner, axis=1).min() < 6 for corner in found)


def test_no_rectangle_is_cut_out_of_a_hand() -> None:
    view = np.full((400, 300), 20, np.uint8)
    grain = np.random.default_rng(0).normal(0, 12, view.shape)
    view[:, :130] = 150
    textured = np.clip(view + grain * (view == 150), 0, 255).astype(np.uint8)
    corners = find_carrier(textured, "ladder")
    assert corners is not None
    assert corners[:, 0].max() < 132, "the part rich in detail may be taken"
    textured[:, 130:] += 200
    smooth_side = find_carrier(np.asarray(255 - textured, np.uint8), "ladder")
    assert smooth_side is None or smooth_side[:, 0].max() < 132, "the smooth part beside it never"


@pytest.mark.parametrize("beyond", [26, 60])
def test_an_edge_along_a_limb_is_no_carrier_s(beyond: int) -> None:
    view = np.full((400, 300), 20, np.uint8)
    view[:, 130:] = beyond  # the other half of the plate, a little brighter
    view[:320, 115:160] = 90
    view[:320, 125:150] = 130
    view += np.random.default_rng(0).integers(0, 4, view.shape, np.uint8)
    assert find_carrier(view, "ladder") is None


@pytest.mark.parametrize("share", [0.15, 0.995])
@pytest.mark.parametrize("method", ["ladder", "otsu"])
def test_markers_and_whole_pictures_are_no_carriers(method: Method, share: float) -> None:
    if share < 0.5:
        view, _ = plate(level=200, surroundings=10, share=share)
    else:
        view = np.pad(np.full((498, 398), 200, np.uint8), 1)
    assert find_carrier(view, method) is None


@pytest.mark.parametrize("method", METHODS)
def test_every_method_finds_a_plain_plate(method: Method) -> None:
    view, corners = plate(level=200, surroundings=10)
    view = np.asarray(cv2.resize(view, (384, 512), interpolation=cv2.INTER_LINEAR), np.uint8)
    found = find_carrier(view, method)
    assert found is not None
    assert all(np.linalg.norm(corners * 1.28 - corner, axis=1).min() < 8 for corner in found)


def test_the_published_rule_wants_its_area_and_right_angles() -> None:
    view, _ = plate(level=200, surroundings=10, share=0.45)
    assert find_carrier(view, "ladder") is not None
    assert find_carrier(view, "contours") is None, "less than 100,000 pixels of a picture of 512"
    kite = np.full((512, 512), 10, np.uint8)
    cv2.fillConvexPoly(kite, np.array([[256, 2], [330, 256], [256, 509], [20, 256]]), 200)
    assert find_carrier(kite, "contours") is None
    octagon = np.full((512, 512), 10, np.uint8)
    cv2.circle(octagon, (256, 256), 250, 200, -1)
    assert find_carrier(octagon, "contours") is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (40, 30)])
def test_pictures_of_one_level_have_no_carrier(shape: tuple[int, int], method: Method) -> None:
    for level in (0, 100, 255):
        assert find_carrier(np.full(shape, level, np.uint8), method) is None


def test_an_upright_carrier_is_cut_out_pixel_by_pixel() -> None:
    image = on_carrier(0)
    plan = CarrierCrop().plan(image)
    (left, top), _, (right, bottom), _ = plan.parameters["corners"]
    assert all(corner == round(corner) for corner in (left, top, right, bottom))
    crop = CarrierCrop().apply(image, plan)
    np.testing.assert_array_equal(crop, image[int(top) : int(bottom) + 1, int(left) : int(right) + 1])
