from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anomalib_xray.phantom import SceneOptions, render_phantom
from anomalib_xray.preparation.segmentation.flat import Flat, flat_foreground
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


def test_holes_are_filled() -> None:
    image = np.full((200, 200), 20, np.uint8)
    cv2.circle(image, (100, 100), 60, 120, 20)
    found = flat_foreground(image)
    assert found[100, 100]
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


def test_the_segmenter_is_the_function() -> None:
    image = render_phantom(np.random.default_rng(1), SceneOptions(prepared=False)).image
    before = image.copy()
    np.testing.assert_array_equal(Flat().segment(image), flat_foreground(image))
    np.testing.assert_array_equal(image, before)
