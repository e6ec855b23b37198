from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch

from anomalib_xray.transforms.grey_levels import equalize, min_max


def to_image(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture).float()[None] / 255


def ramp_on_background() -> np.ndarray:
    return np.tile(np.arange(256, dtype=np.uint8), (9, 1))


def noise_on_background(top: int) -> np.ndarray:
    picture = np.random.default_rng(top).integers(1, top, (61, 83)).astype(np.uint8)
    picture[:, :20] = 0
    return picture


def two_pixels() -> np.ndarray:
    return np.array([[0, 7]], np.uint8)


@pytest.mark.parametrize(
    "picture",
    [ramp_on_background(), noise_on_background(256), noise_on_background(40), noise_on_background(3), two_pixels()],
    ids=["ramp", "noise", "dark noise", "two levels", "one foreground pixel"],
)
def test_equals_opencv_up_to_its_rounding(picture: np.ndarray) -> None:
    # OpenCV may round a foreground pixel down to background; here it stays one grey level.
    expected = np.where(picture > 0, np.maximum(cv2.equalizeHist(picture), 1), 0)
    equalized = equalize(to_image(picture))[0].numpy() * 255
    np.testing.assert_allclose(equalized, expected, atol=0.5 + 1e-3)


def test_equals_opencv_on_hands(draw_hand: Callable[..., np.ndarray]) -> None:
    for seed, shape in enumerate([(128, 128), (97, 55), (300, 180)]):
        picture = draw_hand(*shape, seed)
        expected = np.where(picture > 0, np.maximum(cv2.equalizeHist(picture), 1), 0)
        np.testing.assert_allclose(equalize(to_image(picture))[0].numpy() * 255, expected, atol=0.5 + 1e-3)


def test_result_is_the_share_of_foreground_not_brighter() -> None:
    image = torch.tensor([[[0.0, 10, 20, 20, 30, 250]]], dtype=torch.float64) / 255
    expected = torch.tensor([[[0, 0.2, 0.6, 0.6, 0.8, 1.0]]], dtype=torch.float64)
    torch.testing.assert_close(equalize(image), expected)


def test_levels_between_two_bins_count_for_both() -> None:
    # 10.25 counts 0.75 in bin 10 and 0.25 in bin 11, so the table is 0.375, 0.5, ..., 1 at 10, 11, ..., 40.
    image = torch.tensor([[0.0, 10.25, 40.0]], dtype=torch.float64) / 255
    expected = torch.tensor([[0.0, 0.375 + 0.25 * 0.125, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(equalize(image), expected)


def test_a_tiny_difference_stays_tiny() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 64, 64, dtype=torch.float64).mul(255).round().clamp(min=1).div(255)
    moved = (image + 1e-9 * torch.randn_like(image)).clamp(1 / 255, 1)
    assert (equalize(moved) - equalize(image)).abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_order_background_and_dtype_are_kept(
    dtype: torch.dtype,
    hand_image: Callable[..., torch.Tensor],
    assert_foreground_promise: Callable[[torch.Tensor], None],
) -> None:
    image = hand_image(75, 40)[0].to(dtype)
    equalized = equalize(image)
    assert equalized.dtype == dtype
    assert_foreground_promise(equalized)
    assert torch.equal(equalized > 0, image > 0)
    by_level = equalized.flatten()[image.flatten().argsort(stable=True)]
    assert (by_level.diff() >= -1e-6).all()


@pytest.mark.parametrize("shape", [(1, 30), (30, 1), (1, 1), (31, 17)])
def test_zeros_stay_and_one_level_becomes_white(shape: tuple[int, int]) -> None:
    assert not equalize(torch.zeros(2, *shape)).any()
    torch.testing.assert_close(equalize(torch.full((2, *shape), 0.4)), torch.ones(2, *shape))


def test_pictures_of_a_batch_are_independent(hand_image: Callable[..., torch.Tensor]) -> None:
    images = torch.stack([hand_image(50, 60, seed) * (seed < 3) for seed in range(4)])
    together = equalize(images)
    for image, equalized in zip(images, together, strict=True):
        torch.testing.assert_close(equalize(image), equalized, rtol=0, atol=1e-6)


def scale_by_hand(picture: np.ndarray) -> np.ndarray:
    scaled = (picture - picture.min()) / (picture.max() - picture.min())
    return np.where(picture > 0, np.maximum(scaled, 1 / 255), 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_formula(
    dtype: torch.dtype,
    hand_image: Callable[..., torch.Tensor],
    assert_foreground_promise: Callable[[torch.Tensor], None],
) -> None:
    hands = [hand_image(60, 41, seed)[0].to(dtype) * 0.7 for seed in range(3)]
    raw = torch.rand(60, 41, dtype=dtype) * 0.3 + 0.4  # no background at all
    images = torch.stack([*hands, raw])[:, None]
    scaled = min_max(images)
    assert scaled.dtype == dtype
    assert_foreground_promise(scaled)
    assert torch.equal(scaled > 0, images > 0)
    for image, result in zip(images, scaled, strict=True):
        np.testing.assert_allclose(result[0].numpy(), scale_by_hand(image[0].double().numpy()), atol=1e-6)


def test_the_darkest_pixel_of_a_raw_radiograph_stays_foreground() -> None:
    scaled = min_max(torch.tensor([[0.2, 0.5, 0.8]]))
    torch.testing.assert_close(scaled, torch.tensor([[1 / 255, 0.5, 1.0]]))


@pytest.mark.parametrize("shape", [(1, 30), (30, 1), (1, 1), (31, 17)])
def test_pictures_of_one_value_survive(shape: tuple[int, int]) -> None:
    assert not min_max(torch.zeros(2, *shape)).any()
    torch.testing.assert_close(min_max(torch.full((2, *shape), 0.4)), torch.full((2, *shape), 1 / 255))


def test_rounding_noise_is_not_blown_up() -> None:
    noise = 0.4 + 1e-7 * torch.rand(1, 20, 20)
    torch.testing.assert_close(min_max(noise), torch.full((1, 20, 20), 1 / 255))
