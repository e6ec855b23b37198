from __future__ import annotations

import cv2
import numpy as np
import pytest

from anomalib_xray.phantom import SceneOptions, render_phantom
from anomalib_xray.preparation.contours import find_hands, from_left, is_plate


def hand(seed: int) -> np.ndarray:
    """The foreground of an upright hand whose forearm leaves the picture below."""
    return render_phantom(np.random.default_rng(seed), SceneOptions(landscape=0.0)).foreground


def side_by_side(left: np.ndarray, right: np.ndarray, overlap: int) -> tuple[np.ndarray, np.ndarray]:
    """Two hands on one plane, moved together until they lie over each other by some pixels where they are closest."""
    width = left.shape[1] + right.shape[1]
    first, second = np.zeros((2, left.shape[0], width), np.bool_)
    first[:, : left.shape[1]] = left
    second[:, left.shape[1] :] = right
    rows = first.any(axis=1) & second.any(axis=1)
    ends = width - 1 - first[rows, ::-1].argmax(axis=1)
    gap = (second[rows].argmax(axis=1) - ends).min()
    return first, np.roll(second, -(gap + overlap), axis=1)


def agreement(found: np.ndarray, truth: np.ndarray) -> float:
    return float((found & truth).sum() / (found | truth).sum())


@pytest.mark.parametrize("overlap", [3, 25])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mirrored", [False, True])
def test_touching_hands_part_where_they_touch(overlap: int, seed: int, mirrored: bool) -> None:
    other = hand(seed + 50)
    left, right = side_by_side(hand(seed), other[:, ::-1] if mirrored else other, overlap)
    labels, touching = find_hands(left | right, 0.2)
    assert touching
    assert labels.max() == 2
    assert agreement(labels == 1, left) > 0.93
    assert agreement(labels == 2, right) > 0.93
    assert ((labels > 0) == (left | right)).all()


@pytest.mark.parametrize("seed", range(3))
def test_forearms_that_lie_side_by_side_are_parted_too(seed: int) -> None:
    left, right = side_by_side(hand(seed), hand(seed)[:, ::-1], -40)
    left_end, right_start = left[-1].nonzero()[0][-1], right[-1].nonzero()[0][0]
    middle = (left_end + right_start) // 2
    low = slice(left.shape[0] - 50, None)
    left[low, left_end : middle + 1] = True
    right[low, middle + 1 : right_start] = True
    labels, touching = find_hands(left | right, 0.2)
    assert touching
    assert labels.max() == 2
    assert agreement(labels == 1, left) > 0.9
    assert agreement(labels == 2, right) > 0.9


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("seed", range(8))
def test_one_hand_stays_one(seed: int, turn: int) -> None:
    turned = np.rot90(hand(seed), turn)
    labels, touching = find_hands(turned, 0.2)
    assert not touching
    assert ((labels == 1) == turned).all()


def drawn(*segments: tuple[tuple[int, int], tuple[int, int], int]) -> np.ndarray:
    """Thick lines: from, to, width."""
    plane = np.zeros((400, 400), np.uint8)
    for start, end, width in segments:
        cv2.line(plane, start, end, 1, width)
    return plane > 0


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(drawn(((200, 200), (200, 210), 150), ((200, 250), (200, 399), 100)), id="fist"),
        pytest.param(drawn(((200, 160), (200, 200), 130), ((200, 230), (200, 399), 80)), id="slender wrist"),
        pytest.param(
            drawn(((200, 200), (200, 230), 120), ((200, 230), (200, 399), 90), ((220, 230), (350, 190), 50)),
            id="thumb led away",
        ),
        pytest.param(
            drawn(
                ((200, 220), (200, 250), 120),
                ((170, 220), (60, 60), 30),
                ((190, 200), (150, 20), 30),
                ((210, 200), (250, 20), 30),
                ((230, 220), (340, 60), 30),
                ((200, 250), (200, 399), 90),
            ),
            id="fingers spread",
        ),
    ],
)
def test_unusual_hands_stay_one(body: np.ndarray) -> None:
    labels, _ = find_hands(body, 0.2)
    assert ((labels == 1) == body).all()


BENT = drawn(((60, 399), (60, 100), 90), ((60, 100), (399, 100), 80))


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(BENT, id="elbow"),
        pytest.param(drawn(((80, 399), (200, 60), 80), ((200, 60), (320, 399), 80)), id="sharply bent elbow"),
        pytest.param(
            drawn(((200, 0), (200, 120), 90), ((200, 120), (200, 240), 40), ((200, 240), (200, 399), 100)),
            id="hand behind a slender forearm",
        ),
        pytest.param(
            drawn(((200, 0), (200, 180), 80), ((200, 180), (200, 230), 30), ((0, 300), (320, 260), 90)),
            id="gripped by another hand",
        ),
        pytest.param(BENT | drawn(((330, 100), (330, 200), 100)), id="holder at the wrist"),
    ],
)
def test_a_connected_limb_is_never_cut(body: np.ndarray, turn: int) -> None:
    body = np.rot90(body, turn)
    labels, touching = find_hands(body, 0.2)
    assert not touching
    assert ((labels == 1) == body).all()


@pytest.mark.parametrize("turn", range(4))
def test_a_limb_that_a_bangle_interrupts_is_one(turn: int) -> None:
    limb = hand(3)
    limb[limb.shape[0] * 3 // 4 :][:14] = False
    limb = np.rot90(limb, turn)
    labels, _ = find_hands(limb, 0.2)
    assert ((labels == 1) == limb).all()


def test_hands_that_nearly_touch_are_two() -> None:
    left, right = side_by_side(hand(0), hand(1)[:, ::-1], -4)
    labels, touching = find_hands(left | right, 0.2)
    assert not touching
    assert ((labels == 1) == left).all()
    assert ((labels == 2) == right).all()


def test_the_rest_of_a_bright_strip_is_no_hand() -> None:
    limb = hand(3)
    strip = np.zeros_like(limb)
    strip[limb.shape[0] // 8 : -limb.shape[0] // 4, 2:36] = True
    strip &= ~cv2.dilate(limb.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(np.bool_)
    labels, _ = find_hands(limb | strip, 0.05)
    assert ((labels == 1) == limb).all()


def test_nothing_is_found_in_an_empty_foreground() -> None:
    labels, touching = find_hands(np.zeros((30, 20), np.bool_), 0.2)
    assert not labels.any()
    assert not touching


@pytest.mark.slow
def test_nearly_all_phantoms_are_divided_rightly() -> None:
    right = 0
    for seed in range(60):
        options = SceneOptions(prepared=False, second_hand=1.0, touching=0.2)
        phantom = render_phantom(np.random.default_rng(seed), options)
        labels, _ = find_hands(phantom.foreground, 0.2)
        boxes = [cv2.boundingRect((labels == number).astype(np.uint8)) for number in range(1, int(labels.max()) + 1)]
        corners = [(x, y, x + width, y + height) for x, y, width, height in boxes]
        right += len(corners) == 2 and np.abs(np.subtract(corners, phantom.hand_boxes)).max() <= 12
    assert right >= 57


def test_hands_are_numbered_from_left_without_gaps() -> None:
    labels = np.array([[0, 7, 7, 0, 2], [5, 7, 0, 0, 2]], np.int32)
    assert from_left(labels).tolist() == [[0, 2, 2, 0, 3], [1, 2, 0, 0, 3]]


def test_an_empty_plane_stays_empty() -> None:
    assert not from_left(np.zeros((3, 4), np.int32)).any()


@pytest.mark.parametrize("degrees", [0, 11, 45])
def test_a_turned_carrier_is_a_plate_even_with_holes(degrees: float) -> None:
    corners = cv2.boxPoints(((100, 100), (120, 80), degrees))
    body = np.zeros((200, 200), np.uint8)
    cv2.fillPoly(body, [np.rint(corners).astype(np.int32)], 1)
    body[95:105, 80:120] = 0
    assert is_plate(body > 0)


def test_a_disc_is_no_plate() -> None:
    body = np.zeros((200, 200), np.uint8)
    cv2.circle(body, (100, 100), 60, 1, cv2.FILLED)
    assert not is_plate(body > 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_what_has_no_area_is_a_plate(shape: tuple[int, int]) -> None:
    assert is_plate(np.ones(shape, np.bool_))
