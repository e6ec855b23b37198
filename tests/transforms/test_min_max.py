from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from anomalib_xray.transforms.min_max import min_max


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
