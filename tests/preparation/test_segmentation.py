from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anomalib_xray.phantom import SceneOptions, render_phantom
from anomalib_xray.preparation.segmentation import (
    agreed,
    central_parts,
    fill_holes,
    flat_foreground,
    grabcut_foreground,
    limbs,
    snapped,
)
from anomalib_xray.preparation.step import Mask


def iou(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_hands_of_phantoms_with_markers_are_found() -> None:
    phantoms = [
        render_phantom(np.random.default_rng(seed), SceneOptions(prepared=False, marker=1)) for seed in range(12)
    ]
    overlaps = [iou(flat_foreground(phantom.image), phantom.foreground) for phantom in phantoms]
    assert np.mean(overlaps) >= 0.975
    assert min(overlaps) >= 0.95


def test_both_hands_are_kept() -> None:
    options = SceneOptions(prepared=False, second_hand=1, marker=1)
    for seed in range(4):
        phantom = render_phantom(np.random.default_rng(seed), options)
        found = flat_foreground(phantom.image)
        assert len(phantom.hand_boxes) == 2
        for x0, y0, x1, y1 in phantom.hand_boxes:
            inside = np.s_[y0:y1, x0:x1]
            assert iou(found[inside], phantom.foreground[inside]) >= 0.95


@pytest.mark.parametrize("level", [0, 255])
def test_a_frame_of_the_film_is_no_hand(level: int) -> None:
    phantom = render_phantom(np.random.default_rng(3), SceneOptions(prepared=False))
    framed = cv2.copyMakeBorder(phantom.image, 0, 24, 30, 0, cv2.BORDER_CONSTANT, value=level)
    truth = cv2.copyMakeBorder(phantom.foreground.astype(np.uint8), 0, 24, 30, 0, cv2.BORDER_CONSTANT, value=0) > 0
    assert iou(flat_foreground(np.asarray(framed, np.uint8)), np.asarray(truth)) >= 0.96


def test_a_glow_along_the_border_is_cut_off_and_the_forearm_is_kept() -> None:
    phantom = render_phantom(np.random.default_rng(3), SceneOptions(prepared=False, landscape=0))
    glow = np.zeros(phantom.image.shape, np.int16)
    glow[-14:] = 25
    found = flat_foreground(np.clip(phantom.image + glow, 0, 255).astype(np.uint8))
    assert iou(found, phantom.foreground) >= 0.96


def test_a_slope_of_the_background_does_not_matter() -> None:
    phantom = render_phantom(np.random.default_rng(5), SceneOptions(prepared=False))
    slope = np.linspace(0, 60, phantom.image.shape[1])
    sloping = np.clip(phantom.image * 0.7 + slope, 0, 255).astype(np.uint8)
    assert iou(flat_foreground(sloping), phantom.foreground) >= 0.95


def test_small_holes_are_filled_and_the_plate_is_seen_through_large_ones() -> None:
    image = np.full((200, 200), 20, np.uint8)
    cv2.circle(image, (100, 100), 60, 120, 20)
    cv2.circle(image, (100, 40), 2, 20, -1)
    found = flat_foreground(image)
    assert found[40, 100]
    assert not found[100, 100]
    assert not found[5, 5]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 1), np.uint8),
        np.full((1, 1), 255, np.uint8),
        np.array([[0, 255]], np.uint8),
        np.zeros((3, 500), np.uint8),
        np.full((64, 48), 255, np.uint8),
        np.full((64, 48), 7, np.uint8),
    ],
)
def test_nothing_is_found_where_nothing_is(image: NDArray[np.uint8]) -> None:
    found = flat_foreground(image)
    assert found.shape == image.shape
    assert not found.any()


def test_noise_alone_gives_no_large_foreground() -> None:
    noise = np.random.default_rng(0).normal(40, 3, (300, 300)).astype(np.uint8)
    assert flat_foreground(noise).mean() < 0.01


def test_the_picture_stays_as_it_is() -> None:
    image = render_phantom(np.random.default_rng(1), SceneOptions(prepared=False)).image
    before = image.copy()
    flat_foreground(image)
    np.testing.assert_array_equal(image, before)


def mask_of(*rows: str) -> np.ndarray:
    return np.array([[character == "#" for character in row] for row in rows])


def test_only_enclosed_background_is_filled() -> None:
    mask = mask_of(
        "..####",
        "..#..#",
        "..####",
        "###...",
        "..#...",
    )
    filled = mask_of(
        "..####",
        "..####",
        "..####",
        "###...",
        "..#...",
    )
    before = mask.copy()
    np.testing.assert_array_equal(fill_holes(mask), filled)
    np.testing.assert_array_equal(mask, before)


def test_full_and_empty_masks_stay() -> None:
    for value in (True, False):
        np.testing.assert_array_equal(fill_holes(np.full((3, 2), value)), np.full((3, 2), value))


def test_the_central_part_is_kept_and_the_others_are_dropped() -> None:
    mask = np.zeros((100, 100), bool)
    mask[30:60, 40:60] = True
    hand = mask.copy()
    mask[0:16, 0:16] = True  # 0.43 of the hand's area, but in a corner
    mask[80:85, 50:55] = True
    np.testing.assert_array_equal(central_parts(mask), hand)


def test_both_of_two_hands_are_kept() -> None:
    mask = np.zeros((100, 200), bool)
    mask[30:90, 20:60] = True
    mask[40:90, 140:170] = True
    hands = mask.copy()
    mask[10:15, 100:105] = True
    np.testing.assert_array_equal(central_parts(mask), hands)


def test_an_empty_mask_has_no_parts() -> None:
    assert not central_parts(np.zeros((4, 5), bool)).any()


def test_limbs_are_kept_by_their_size_wherever_they_lie() -> None:
    logits = np.full((100, 200), -1, np.float32)
    logits[30:90, 20:60] = 0
    logits[0:26, 190:200] = 3  # a ninth of it, in a corner
    kept = logits >= 0
    logits[40:44, 30:34] = -2  # a hole
    logits[50:55, 150:155] = 3
    np.testing.assert_array_equal(limbs(logits), kept)
    assert not limbs(np.full((4, 5), -1, np.float32)).any()


def test_a_sure_network_decides_and_grey_levels_decide_where_it_is_unsure() -> None:
    logits = np.full((60, 80), -9, np.float32)
    logits[20:50, 20:40] = 9  # does not stand out, as beside a white strip
    logits[20:50, 40:60] = 1  # stands out on the left only
    flat = np.zeros((60, 80), bool)
    flat[20:50, 40:50] = True
    flat[:, 70:] = True  # a white strip
    expected = np.zeros((60, 80), bool)
    expected[20:50, 20:50] = True
    mask, doubt = agreed(logits, flat, np.zeros((60, 80), np.uint8))
    np.testing.assert_array_equal(mask, expected)
    assert doubt == pytest.approx(300 / 900)  # 1 - 3 would be foreground with a little more
    sure = np.where(expected, 9, -9).astype(np.float32)
    assert agreed(sure, expected, np.zeros((60, 80), np.uint8))[1] == 0


def test_a_part_without_an_outline_is_a_patch_of_the_plate() -> None:
    view = np.full((60, 80), 30, np.uint8)
    view[10:50, 5:30] = 90
    limb, patch = (np.zeros((60, 80), bool) for _ in range(2))
    limb[10:50, 5:30] = True
    patch[20:50, 50:70] = True
    logits = np.where(limb | patch, 9, -9).astype(np.float32)
    np.testing.assert_array_equal(agreed(logits, limb | patch, view)[0], limb)
    view[patch] = 36  # a faint limb
    np.testing.assert_array_equal(agreed(logits, limb | patch, view)[0], limb | patch)


@pytest.mark.parametrize("off", [-2, 2])
def test_an_outline_moves_onto_the_skin(off: int) -> None:
    y, x = np.mgrid[:120, :100]
    depth = 1 - ((x - 50) ** 2 + (y - 60) ** 2) / 30**2  # of a ball, squared
    view = np.asarray(30 + 60 * np.sqrt(np.maximum(depth, 0)), np.uint8)
    rough = np.zeros(view.shape, np.uint8)
    cv2.circle(rough, (50, 60), 30 + off, 1, -1)
    assert iou(snapped(rough > 0, view), depth > 0) >= 0.96 > iou(rough > 0, depth > 0)


def test_an_outline_without_a_step_stays() -> None:
    mask = np.zeros((60, 60), bool)
    mask[20:40, 0:30] = True
    np.testing.assert_array_equal(snapped(mask, np.full((60, 60), 80, np.uint8)), mask)


def test_a_limb_that_leaves_the_picture_is_not_rounded() -> None:
    view = np.full((120, 100), 30, np.uint8)
    view[40:, 30:70] = 90
    found = snapped(view > 60, view)
    assert found[-5:, 32:68].all()
    assert not found[:, :25].any()


def disc(height: int, width: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    image = np.full((height, width), 40, np.uint8)
    cv2.circle(image, (width // 2, height // 2), 50, 200, -1)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(200, 260), (260, 200)])
def test_a_bright_disc_is_found(shape: tuple[int, int]) -> None:
    image = disc(*shape)
    found = grabcut_foreground(image)
    truth = image > 120
    assert (found & truth).sum() / (found | truth).sum() > 0.95


def test_outside_of_the_published_rectangle_is_background() -> None:
    image = np.random.default_rng(1).integers(0, 255, (400, 512), np.uint8)
    outside = np.ones(image.shape, np.bool_)
    outside[25 : 25 + 290, 25 : 25 + 400] = False
    assert not grabcut_foreground(image, iterations=1)[outside].any()


def test_the_rectangle_is_turned_with_the_picture() -> None:
    image = np.random.default_rng(1).integers(0, 255, (512, 400), np.uint8)
    outside = np.ones(image.shape, np.bool_)
    outside[25 : 25 + 400, 25 : 25 + 290] = False
    assert not grabcut_foreground(image, iterations=1)[outside].any()


def test_the_same_picture_gives_the_same_mask_whatever_was_drawn_before() -> None:
    image = np.random.default_rng(2).integers(0, 255, (120, 160), np.uint8)
    first = grabcut_foreground(image)
    cv2.setRNGSeed(12345)
    np.testing.assert_array_equal(grabcut_foreground(image), first)


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (15, 15), (16, 16), (17, 300)])
@pytest.mark.parametrize("level", [0, 255])
def test_tiny_and_constant_pictures_have_no_foreground(shape: tuple[int, int], level: int) -> None:
    assert not grabcut_foreground(np.full(shape, level, np.uint8)).any()


@pytest.mark.parametrize("shape", [(16, 16), (17, 300), (300, 17)])
def test_small_pictures_are_no_error(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(3).integers(0, 255, shape, np.uint8)
    assert grabcut_foreground(image).shape == shape


def test_two_levels_are_no_error() -> None:
    image = np.zeros((100, 100), np.uint8)
    image[50, 50] = 1
    assert grabcut_foreground(image).shape == image.shape
