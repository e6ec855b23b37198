from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anomalib_xray.phantom import Phantom, SceneOptions, render_phantom
from anomalib_xray.preparation.carrier_search import Method, find_carrier

View = NDArray[np.uint8]
METHODS: tuple[Method, ...] = ("ladder", "otsu", "contours")


def scenes(carrier: float, seeds: range) -> list[Phantom]:
    options = SceneOptions(prepared=False, carrier=carrier, marker=0.8, second_hand=0.1, inverted=0.1)
    return [render_phantom(np.random.default_rng(seed), options) for seed in seeds]


@pytest.fixture(scope="module")
def tilted() -> list[Phantom]:
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


def test_tilted_carriers_of_phantoms_are_found(tilted: list[Phantom]) -> None:
    for phantom in tilted:
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
