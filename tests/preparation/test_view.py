from __future__ import annotations

import cv2
import numpy as np
import pytest

from anomalib_xray.preparation.view import detail, full_mask, keep_background, scaling, small_view, to_8_bit


def test_8_bits_stay_as_they_are() -> None:
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert to_8_bit(image) is image


def test_16_bits_are_scaled_by_their_maximum_and_keep_the_background() -> None:
    image = np.array([[0, 1, 2000, 4000]], np.uint16)
    assert to_8_bit(image).tolist() == [[0, 1, 128, 255]]
    assert to_8_bit(np.zeros((2, 2), np.uint16)).max() == 0
    levels = np.arange(40_001, dtype=np.uint16).reshape(1, -1)
    expected = np.maximum(np.rint(levels / np.float32(40_000) * 255), levels > 0)
    np.testing.assert_array_equal(to_8_bit(levels), expected)


@pytest.mark.parametrize(("shape", "view"), [((1024, 512), (512, 256)), ((100, 80), (100, 80)), ((3000, 2), (512, 1))])
def test_a_view_is_never_larger_than_asked(shape: tuple[int, int], view: tuple[int, int]) -> None:
    assert small_view(np.full(shape, 9, np.uint16)).shape == view


def test_a_mask_returns_to_full_size() -> None:
    mask = np.zeros((40, 32), bool)
    mask[8:24, 8:20] = True
    full = full_mask(mask, (160, 128))
    assert full.shape == (160, 128)
    assert full.mean() == pytest.approx(mask.mean(), rel=0.1)
    assert full[64, 48]
    assert full_mask(mask, (40, 32)) is mask


def test_the_outline_of_an_enlarged_mask_has_no_stairs() -> None:
    y, x = np.mgrid[:100, :100]
    slope = y > 30 + 0.3 * x
    full = full_mask(slope, (800, 800))
    heights = full.argmax(axis=0)[100:700]
    straight = np.polyval(np.polyfit(np.arange(600), heights, 1), np.arange(600))
    assert np.abs(heights - straight).max() <= 2  # of the 8 pixels of a stair


def test_scaling_keeps_the_corners_of_the_picture() -> None:
    matrix = scaling((10, 20), (30, 10))
    # pixel centres have whole coordinates, so the picture reaches from -0.5 to its width - 0.5
    np.testing.assert_allclose(matrix @ (-0.5, -0.5, 1), (-0.5, -0.5, 1))
    np.testing.assert_allclose(matrix @ (19.5, 9.5, 1), (9.5, 29.5, 1))


def test_the_background_is_restored() -> None:
    before = np.array([[0, 1, 200]], np.uint8)
    after = np.array([[7, 0, 255]], np.uint8)
    assert keep_background(after, before).tolist() == [[0, 1, 255]]
    assert keep_background(after.astype(np.uint16), before.astype(np.uint16)).dtype == np.uint16


def test_grain_is_detail_and_a_slope_is_none() -> None:
    view = np.tile(np.arange(200, dtype=np.uint8), (100, 1))
    grain = np.random.default_rng(0).integers(-10, 11, (100, 90))
    view[:, 110:] = np.clip(view[:, 110:] + grain, 0, 255)
    found = detail(view)
    assert found.shape == view.shape
    assert found[10:-10, 10:90].max() < 0.1
    assert found[:, 120:-10].min() > 1


def test_the_detail_of_noise_grows_with_the_noise() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (100, 100))
    weak, strong = (detail(np.rint(120 + noise * level).astype(np.uint8)).mean() for level in (5, 20))
    assert strong == pytest.approx(4 * weak, rel=0.05)


def test_an_outline_counts_no_more_than_the_highest_twentieth() -> None:
    view = np.random.default_rng(0).integers(100, 111, (100, 100), np.uint8)
    usual = detail(view).max()
    view[50, 45:55] = 255
    assert detail(view).max() < 1.2 * usual


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (30, 20)])
@pytest.mark.parametrize("level", [0, 100, 255])
def test_pictures_of_one_level_have_no_detail(shape: tuple[int, int], level: int) -> None:
    np.testing.assert_allclose(detail(np.full(shape, level, np.uint8)), 0, atol=1e-3)


@pytest.mark.parametrize("shape", [(1440, 1152), (1441, 1153), (700, 2)])
def test_a_large_view_is_that_of_plain_means(shape: tuple[int, int]) -> None:
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, shape, np.uint8), (0, 0), 4)
    plain = cv2.resize(image, small_view(image, 300).shape[::-1], interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(small_view(image, 300).astype(int), plain.astype(int), atol=6)
