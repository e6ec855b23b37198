from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional
from torchvision import tv_tensors

from anomalib_xray.errors import XrayError
from anomalib_xray.transforms import PadResize, SquarePad
from anomalib_xray.transforms.geometry import (
    _triangle_weights,
    pad_resize,
    pad_resize_mask,
    shrink,
    shrink_mask,
    square_pad,
)

SIZES = [(64, 64), (40, 64), (65, 40), (33, 64), (1, 50), (50, 1), (1, 1), (300, 211), (640, 100)]


def pad_by_hand(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape
    side = max(height, width)
    square = np.zeros((side, side), picture.dtype)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = picture
    return square


def clean_by_hand(picture: np.ndarray) -> np.ndarray:
    return np.where(picture < 0.499 / 255, 0, np.maximum(picture, 1 / 255))


@pytest.mark.parametrize("shape", SIZES)
def test_square_pad_centres_with_the_remainder_at_bottom_and_right(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).random(shape)
    assert np.array_equal(square_pad(torch.from_numpy(picture)).numpy(), pad_by_hand(picture))


@pytest.mark.parametrize("shape", SIZES)
def test_uniform_padding_leaves_the_content_at_the_top_left(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).random(shape)
    side = max(shape)
    square = np.zeros((side, side))
    square[: shape[0], : shape[1]] = picture
    assert np.array_equal(square_pad(torch.from_numpy(picture), "uniform").numpy(), square)
    found, expected = pad_resize(torch.from_numpy(picture), 48, "uniform"), pad_resize(torch.from_numpy(square), 48)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-12)


def test_uniform_padding_moves_image_and_mask_alike() -> None:
    image = tv_tensors.Image(torch.ones(3, 40, 20))
    mask = tv_tensors.Mask(torch.ones(40, 20, dtype=torch.uint8))
    padded, its_mask = PadResize(40, "uniform")(image, mask)
    assert padded[0, 0].tolist() == its_mask[0].tolist() == [1] * 20 + [0] * 20


def test_an_unknown_padding_is_refused() -> None:
    with pytest.raises(XrayError, match="'left'; choose one of centred, uniform"):
        PadResize(20, "left")  # type: ignore[arg-type]


def test_square_pad_odd_remainder() -> None:
    assert square_pad(torch.ones(1, 4)).tolist() == [[0] * 4, [1] * 4, [0] * 4, [0] * 4]


@pytest.mark.parametrize("shape", [(20, 20), (64, 64), (13, 40), (63, 22), (1, 30), (1, 1)])
def test_enlarging_equals_opencv_linear(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(1).uniform(0.1, 1, shape).astype(np.float32)
    expected = cv2.resize(pad_by_hand(picture), (128, 128), interpolation=cv2.INTER_LINEAR)
    # OpenCV rounds its interpolation weights to 1/2048.
    np.testing.assert_allclose(pad_resize(torch.from_numpy(picture), 128).numpy(), clean_by_hand(expected), atol=1e-3)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("size", [7, 64, 128])
def test_equals_torch_antialiased(shape: tuple[int, int], size: int) -> None:
    picture = np.random.default_rng(2).uniform(0.1, 1, shape)
    square = torch.from_numpy(pad_by_hand(picture))[None, None]
    expected = functional.interpolate(square, (size, size), mode="bilinear", antialias=True)[0, 0].numpy()
    resized = pad_resize(torch.from_numpy(picture), size).numpy()
    np.testing.assert_allclose(resized, clean_by_hand(expected), atol=1e-12)


def test_shrinking_equals_pillow(draw_hand: Callable[..., np.ndarray]) -> None:
    picture = (draw_hand(301, 233) / 255).astype(np.float32)
    expected = np.asarray(Image.fromarray(pad_by_hand(picture)).resize((100, 100), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(pad_resize(torch.from_numpy(picture), 100).numpy(), clean_by_hand(expected), atol=1e-6)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("size", [1, 64, 100])
def test_applying_it_twice_equals_applying_it_once(
    shape: tuple[int, int], size: int, assert_foreground_promise: Callable[[torch.Tensor], None]
) -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, *shape) * (torch.rand(2, 1, *shape) > 0.3)
    once = pad_resize(image, size)
    assert once.shape == (2, 3, size, size)
    assert_foreground_promise(once)
    assert torch.equal(pad_resize(once, size), once)


def test_the_products_alone_are_exact_for_an_image_of_that_size() -> None:
    # What an exported graph does with an image that has its size already.
    assert torch.equal(_triangle_weights(96, 96, torch.zeros(1)), torch.eye(96))


def test_an_8_bit_image_of_that_size_stays_bit_for_bit(hand_image: Callable[..., torch.Tensor]) -> None:
    image = hand_image(64, 64)
    assert torch.equal(pad_resize(image, 64), image)


def test_what_8_bit_rounds_to_zero_is_background() -> None:
    image = torch.tensor([[0.0, 0.4, 0.6, 1.0]]).repeat(4, 1) / 255
    assert torch.equal(pad_resize(image, 4)[0] * 255, torch.tensor([0.0, 0.0, 1.0, 1.0]))


def test_exact_halves_of_a_grey_level_are_foreground() -> None:
    image = torch.zeros(1, 8, 8)
    image[..., 4:] = 4 / 255  # the pixel left of the edge gets 1/8 of it: half a grey level
    assert torch.equal((pad_resize(image, 4) > 0)[0, 0], torch.tensor([False, True, True, True]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept_and_zeros_stay(dtype: torch.dtype) -> None:
    resized = pad_resize(torch.zeros(3, 30, 17, dtype=dtype), 16)
    assert resized.dtype == dtype
    assert not resized.any()


def test_pictures_of_a_batch_are_independent(hand_image: Callable[..., torch.Tensor]) -> None:
    images = torch.stack([hand_image(90, 70, seed) for seed in range(3)])
    for image, resized in zip(images, pad_resize(images, 64), strict=True):
        torch.testing.assert_close(pad_resize(image, 64), resized, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool])
@pytest.mark.parametrize("shape", [(40, 64), (3, 128, 90), (64, 64)])
def test_mask_keeps_type_and_dtype_and_follows_the_image(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    mask = torch.zeros(shape, dtype=dtype)
    mask[..., 10:30, 20:40] = 1
    image = mask.float()
    new_image, new_mask = PadResize(64)(tv_tensors.Image(image), tv_tensors.Mask(mask))
    assert type(new_mask) is tv_tensors.Mask
    assert new_mask.dtype == dtype
    assert new_mask.shape == (*shape[:-2], 64, 64)
    assert torch.equal(torch.as_tensor(new_mask).bool(), torch.as_tensor(new_image).reshape(new_mask.shape) > 0.1)


def test_a_thin_line_survives_in_a_small_mask() -> None:
    mask = torch.zeros(512, 512, dtype=torch.uint8)
    mask[:, 251] = 255
    small = pad_resize_mask(mask, 64)
    assert small.max() == 1
    assert small.any(dim=1).all()
    assert small.any(dim=0).sum() <= 2


def test_square_pad_moves_image_and_mask_alike(hand_image: Callable[..., torch.Tensor]) -> None:
    image = hand_image(21, 40)
    padded, mask = SquarePad()(tv_tensors.Image(image), tv_tensors.Mask(image[0] > 0))
    assert padded.shape == (3, 40, 40)
    assert torch.equal(torch.as_tensor(mask), torch.as_tensor(padded[0]) > 0)


@pytest.mark.parametrize("image_type", [torch.as_tensor, tv_tensors.Image])
def test_a_mask_without_type_is_refused(image_type: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(XrayError, match=r"tv_tensors\.Mask"):
        PadResize(8)(image_type(torch.rand(3, 20, 10)), torch.zeros(20, 10))


def test_other_tensors_of_a_sample_pass() -> None:
    labels = torch.tensor([0, 1])
    _, passed = PadResize(8)(torch.rand(2, 3, 20, 10), labels)
    assert passed is labels


@pytest.mark.parametrize("size", [0, -4])
def test_a_size_below_one_is_refused(size: int) -> None:
    with pytest.raises(XrayError, match=f"{size}"):
        PadResize(size)


@pytest.mark.parametrize(("shape", "side"), [((60, 41), 20), ((33, 90), 40), ((5, 400), 8)])
def test_shrinking_keeps_the_aspect_and_equals_torchs_antialiased_filter(shape: tuple[int, int], side: int) -> None:
    image = torch.rand(1, *shape).clamp(min=0.1)
    shrunk = shrink(image, side)
    expected = tuple(max(1, round(length * side / max(shape))) for length in shape)
    reference = functional.interpolate(image[None], size=expected, mode="bilinear", antialias=True)[0]
    torch.testing.assert_close(shrunk, reference, atol=1e-5, rtol=0)
    assert shrink_mask(torch.ones(shape, dtype=torch.uint8), side).sum() == expected[0] * expected[1]


def test_shrinking_never_enlarges() -> None:
    image = torch.rand(1, 20, 30)
    assert shrink(image, 30) is image
    assert torch.equal(shrink_mask(torch.eye(9).bool(), 30), torch.eye(9).bool())


def test_shrinking_keeps_background_and_foreground() -> None:
    image = torch.full((1, 100, 100), 1 / 255)
    image[..., :37] = 0
    shrunk = shrink(image, 25)
    assert not shrunk[..., :9].any()
    assert shrunk[..., 10:].min() >= 1 / 255


def test_weights_that_inference_made_serve_a_gradient() -> None:
    with torch.inference_mode():
        expected = pad_resize(torch.full((1, 37, 21), 0.5), 11)
    image = torch.full((1, 37, 21), 0.5, requires_grad=True)
    resized = pad_resize(image, 11)
    resized.sum().backward()
    assert torch.equal(resized, expected)
    assert image.grad is not None
