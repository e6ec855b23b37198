from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anomalib_xray.preparation.segmentation.grabcut import GrabCut


def disc(height: int, width: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    image = np.full((height, width), 40, np.uint8)
    cv2.circle(image, (width // 2, height // 2), 50, 200, -1)
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(200, 260), (260, 200)])
def test_a_bright_disc_is_found(shape: tuple[int, int]) -> None:
    image = disc(*shape)
    found = GrabCut().segment(image)
    truth = image > 120
    assert (found & truth).sum() / (found | truth).sum() > 0.95


def test_outside_of_the_published_rectangle_is_background() -> None:
    image = np.random.default_rng(1).integers(0, 255, (400, 512), np.uint8)
    outside = np.ones(image.shape, np.bool_)
    outside[25 : 25 + 290, 25 : 25 + 400] = False
    assert not GrabCut(iterations=1).segment(image)[outside].any()


def test_the_rectangle_is_turned_with_the_picture() -> None:
    image = np.random.default_rng(1).integers(0, 255, (512, 400), np.uint8)
    outside = np.ones(image.shape, np.bool_)
    outside[25 : 25 + 400, 25 : 25 + 290] = False
    assert not GrabCut(iterations=1).segment(image)[outside].any()


def test_the_same_picture_gives_the_same_mask_whatever_was_drawn_before() -> None:
    image = np.random.default_rng(2).integers(0, 255, (120, 160), np.uint8)
    first = GrabCut().segment(image)
    cv2.setRNGSeed(12345)
    np.testing.assert_array_equal(GrabCut().segment(image), first)


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (15, 15), (16, 16), (17, 300)])
@pytest.mark.parametrize("level", [0, 255])
def test_tiny_and_constant_pictures_have_no_foreground(shape: tuple[int, int], level: int) -> None:
    assert not GrabCut().segment(np.full(shape, level, np.uint8)).any()


@pytest.mark.parametrize("shape", [(16, 16), (17, 300), (300, 17)])
def test_small_pictures_are_no_error(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(3).integers(0, 255, shape, np.uint8)
    assert GrabCut().segment(image).shape == shape


def test_two_levels_are_no_error() -> None:
    image = np.zeros((100, 100), np.uint8)
    image[50, 50] = 1
    assert GrabCut().segment(image).shape == image.shape
