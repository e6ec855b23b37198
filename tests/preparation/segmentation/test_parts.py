from __future__ import annotations

import numpy as np

from anomalib_xray.preparation.segmentation.parts import central_parts, fill_holes


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
