from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import nn

from anomalib_xray.errors import XrayError
from anomalib_xray.scores import (
    RECONSTRUCTION_SCORES,
    dissimilarity,
    enlarged_mean,
    error_gradient,
    error_scores,
    foreground,
    masked_mean,
    masked_top_k_mean,
    reconstruction_errors,
    reconstruction_scores,
    relative_feature_errors,
)


@pytest.fixture
def error() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((4, 1, 9, 7)))


@pytest.fixture
def mask() -> torch.Tensor:
    """Foregrounds of several sizes; the last image has none."""
    mask = torch.from_numpy(np.random.default_rng(1).random((4, 1, 9, 7)) < 0.6).double()
    mask[1] = 1
    mask[3] = 0
    return mask


def foreground_errors(error: torch.Tensor, mask: torch.Tensor) -> list[np.ndarray]:
    return [one.numpy()[its.numpy() > 0] for one, its in zip(error, mask, strict=True)]


def test_masked_mean_averages_foreground_pixels(error: torch.Tensor, mask: torch.Tensor) -> None:
    expected = [values.mean() if len(values) else 0.0 for values in foreground_errors(error, mask)]
    np.testing.assert_allclose(masked_mean(error, mask), expected)


@pytest.mark.parametrize("top_k", [1, 5, 40])
def test_number_of_pixels(error: torch.Tensor, mask: torch.Tensor, top_k: int) -> None:
    # As published: the mean of the k largest of the whole frame, where the background counts as 0.
    frames = (error * mask).flatten(1).numpy()
    expected = [sorted(frame, reverse=True)[:top_k] for frame in frames]
    np.testing.assert_allclose(masked_top_k_mean(error, mask, top_k), np.mean(expected, axis=1))


@pytest.mark.parametrize("top_k", [0.01, 0.25, 0.5])
def test_fraction_of_the_foreground(error: torch.Tensor, mask: torch.Tensor, top_k: float) -> None:
    expected = []
    for values in foreground_errors(error, mask):
        count = math.ceil(top_k * len(values))
        expected.append(np.sort(values)[len(values) - count :].mean() if count else 0.0)
    np.testing.assert_allclose(masked_top_k_mean(error, mask, top_k), expected)


@pytest.mark.parametrize("top_k", [1.5, 200.2, 0, -1, -0.5, math.nan, math.inf])
def test_neither_a_number_of_pixels_nor_a_fraction_is_refused(
    top_k: float, error: torch.Tensor, mask: torch.Tensor
) -> None:
    with pytest.raises(XrayError, match=f"top_k is {top_k:g}, .* whole number"):
        masked_top_k_mean(error, mask, top_k)


def test_more_pixels_than_the_image_has_are_all_its_pixels(error: torch.Tensor, mask: torch.Tensor) -> None:
    np.testing.assert_allclose(masked_top_k_mean(error, mask, 1000), (error * mask).mean((1, 2, 3)))


def test_background_never_counts(error: torch.Tensor, mask: torch.Tensor) -> None:
    spoilt = torch.where(mask > 0, error, 1e6)
    assert torch.equal(masked_mean(spoilt, mask), masked_mean(error, mask))
    assert torch.equal(masked_top_k_mean(spoilt, mask, 0.1), masked_top_k_mean(error, mask, 0.1))


def test_named_scores_are_their_formulas(error: torch.Tensor, mask: torch.Tensor) -> None:
    image, reconstruction = error, error.flip(2)
    scores = reconstruction_scores(image, reconstruction, mask, top_k=3)
    assert tuple(scores) == RECONSTRUCTION_SCORES
    difference = np.abs((image - reconstruction).numpy())
    for name, values in (("mse", difference**2), ("l1", difference), ("smooth_l1", difference**2 / 2)):
        for index in range(3):
            masked = (values * mask.numpy())[index].ravel()
            assert float(scores[name][index]) == pytest.approx(masked.sum() / float(mask[index].sum()))
            assert float(scores[f"{name}_top_k"][index]) == pytest.approx(np.sort(masked)[-3:].mean())
    assert all(float(score[3]) == 0 for score in scores.values())


@pytest.mark.parametrize("top_k", [4, 0.3])
def test_a_score_depends_on_its_image_alone(error: torch.Tensor, mask: torch.Tensor, top_k: float) -> None:
    together = reconstruction_scores(error, error.flip(3), mask, top_k)
    for index in range(len(error)):
        one = slice(index, index + 1)
        alone = reconstruction_scores(error[one], error[one].flip(3), mask[one], top_k)
        for name, score in alone.items():
            torch.testing.assert_close(score, together[name][one])


def test_smooth_l1_is_half_the_squared_error_and_straight_beyond_1(error: torch.Tensor) -> None:
    # Girshick 2015, equation 3; images in [0, 1] never get beyond, so that it ranks them as the squared error does.
    image, reconstruction = 3 * error, torch.zeros_like(error)
    difference = image.numpy()
    expected = np.where(difference < 1, difference**2 / 2, difference - 0.5)
    assert (difference > 1).any()
    np.testing.assert_allclose(reconstruction_errors(image, reconstruction)["smooth_l1"], expected)
    within = reconstruction_errors(error, reconstruction)
    torch.testing.assert_close(within["smooth_l1"], within["mse"] / 2)


@pytest.mark.parametrize("top_k", [3, 0.25])
def test_every_error_has_a_mean_and_a_mean_of_its_largest_pixels(
    top_k: float, error: torch.Tensor, mask: torch.Tensor
) -> None:
    errors = {"first": error, "second": error.square()}
    scores = error_scores(errors, mask, top_k)
    assert tuple(scores) == ("first", "first_top_k", "second", "second_top_k")
    for name, values in errors.items():
        for index, pixels in enumerate(foreground_errors(values, mask)):
            count = top_k if top_k >= 1 else math.ceil(top_k * len(pixels))
            largest = np.sort(pixels)[::-1][: int(count)]
            assert float(scores[name][index]) == pytest.approx(pixels.mean() if len(pixels) else 0)
            assert float(scores[f"{name}_top_k"][index]) == pytest.approx(largest.mean() if len(largest) else 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_marks_every_pixel_above_0(dtype: torch.dtype) -> None:
    image = torch.tensor([[[[0, 1 / 255, 0.5], [1, 0, 1e-7]]]], dtype=dtype)
    mask = foreground(image)
    assert mask.dtype == dtype
    assert mask.tolist() == [[[[0, 1, 1], [1, 0, 1]]]]


EDGE = 5  # half of the window


def reference(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(1 - SSIM) / 2`` after Wang et al. 2004, equation 13, with their window: 11 pixels, Gaussian of 1.5 pixels."""

    def mean(image: NDArray[np.float64]) -> NDArray[np.float64]:
        smoothed: NDArray[np.float64] = gaussian_filter(image, 1.5, radius=EDGE)
        return smoothed

    c1, c2 = 0.01**2, 0.03**2
    covariance = mean(x * y) - mean(x) * mean(y)
    variances = mean(x * x) - mean(x) ** 2, mean(y * y) - mean(y) ** 2
    similarity = (2 * mean(x) * mean(y) + c1) * (2 * covariance + c2)
    similarity /= (mean(x) ** 2 + mean(y) ** 2 + c1) * (sum(variances) + c2)
    return (1 - similarity) / 2


@pytest.fixture
def images() -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures with structure, and others that share some of it."""
    random = np.random.default_rng(0)
    first = gaussian_filter(random.random((3, 1, 32, 40)), (0, 0, 2, 2))
    first = (first - first.min()) / np.ptp(first)
    return torch.from_numpy(first), torch.from_numpy(np.clip(first + random.normal(0, 0.1, first.shape), 0, 1))


def test_is_the_published_formula(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    found = dissimilarity(*images)
    assert found.shape == images[0].shape
    inside = slice(EDGE, -EDGE)
    for index in range(3):
        expected = reference(*(image[index, 0].numpy() for image in images))
        np.testing.assert_allclose(found[index, 0, inside, inside], expected[inside, inside], rtol=1e-5, atol=1e-7)


def test_window_and_range_are_those_that_are_asked_for(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    # the formula has no unit: scaled values with a scaled range give the same
    torch.testing.assert_close(dissimilarity(images[0] * 6, images[1] * 6, value_range=6.0), dissimilarity(*images))
    small = dissimilarity(*images, window=5)
    assert not torch.allclose(small, dissimilarity(*images))
    x, y = (image[:1, :, 10:15, 10:15] for image in images)  # what the window sees around the place 12, 12
    torch.testing.assert_close(dissimilarity(x, y, window=5)[..., 2, 2], small[:1, :, 12, 12])


def test_equal_images_have_none(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert float(dissimilarity(images[0], images[0]).max()) < 1e-7
    assert float(dissimilarity(torch.zeros(1, 1, 16, 16), torch.zeros(1, 1, 16, 16)).max()) < 1e-5


def test_a_negative_is_more_unlike_than_noise(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    image, noisy = images
    assert (dissimilarity(image, 1 - image).mean((1, 2, 3)) > dissimilarity(image, noisy).mean((1, 2, 3))).all()
    assert float(dissimilarity(image, 1 - image).max()) <= 1


def test_sees_structure_where_the_squared_error_sees_brightness(images: tuple[torch.Tensor, torch.Tensor]) -> None:
    image = images[0] * 0.5 + 0.2
    brighter, flat = image + 0.1, image.mean((2, 3), keepdim=True).expand_as(image)
    assert ((image - flat).square().mean((1, 2, 3)) < 2 * (image - brighter).square().mean((1, 2, 3))).all()
    assert (dissimilarity(image, flat).mean((1, 2, 3)) > 5 * dissimilarity(image, brighter).mean((1, 2, 3))).all()


def test_mean_of_a_layers_map_is_the_relative_error() -> None:
    random = np.random.default_rng(0)
    layers = [random.normal(size=(2, 3, 2, 8, 8)), random.normal(size=(2, 3, 5, 4, 4))]
    errors = relative_feature_errors(*([torch.from_numpy(layer[which]) for layer in layers] for which in (0, 1)))
    for error, (feature, other) in zip(errors, layers, strict=True):
        assert error.shape == (3, 1, *feature.shape[2:])
        expected = np.abs(feature - other).sum((1, 2, 3)) / np.abs(feature).sum((1, 2, 3))
        np.testing.assert_allclose(error.mean((1, 2, 3)), expected)
        place = np.abs(feature - other)[1, :, 2, 3].mean() / np.abs(feature[1]).mean()
        np.testing.assert_allclose(error[1, 0, 2, 3], place)


def test_features_without_content_have_a_finite_error() -> None:
    nothing = torch.zeros(1, 2, 4, 4)
    (error,) = relative_feature_errors([nothing], [nothing])
    assert (error == 0).all()


def test_maps_of_several_sizes_are_averaged_at_the_images_size() -> None:
    maps = [torch.full((2, 1, 4, 4), 1.0), torch.full((2, 1, 8, 8), 4.0)]
    torch.testing.assert_close(enlarged_mean(maps, (16, 24)), torch.full((2, 1, 16, 24), 2.5))
    peak = torch.zeros(1, 1, 4, 4)
    peak[..., 1, 2] = 1
    enlarged = enlarged_mean([peak], (32, 32))[0, 0]
    assert np.unravel_index(int(enlarged.argmax()), (32, 32)) in {(y, x) for y in range(8, 16) for x in range(16, 24)}
    assert (enlarged[24:] == 0).all()


SIDE = 5


@pytest.fixture
def image() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((3, 1, SIDE, SIDE)))


@pytest.fixture
def kept() -> torch.Tensor:
    """The last image has no foreground."""
    kept = torch.from_numpy(np.random.default_rng(1).random((3, 1, SIDE, SIDE)) < 0.6).double()
    kept[2] = 0
    return kept


@pytest.fixture
def linear() -> nn.Module:
    """A reconstruction in which every pixel depends on all pixels."""
    layer = nn.Linear(SIDE**2, SIDE**2, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(np.random.default_rng(2).normal(0, 0.3, (SIDE**2, SIDE**2))))
    return nn.Sequential(nn.Flatten(), layer, nn.Unflatten(1, (1, SIDE, SIDE)))


def test_is_the_closed_form_of_a_linear_reconstruction(
    image: torch.Tensor, kept: torch.Tensor, linear: nn.Sequential
) -> None:
    """Of ``|M (W x - x)|^2 / m`` the gradient is ``2 (W - I)' M (W - I) x / m``."""
    weight = linear[1].weight.detach().numpy() - np.eye(SIDE**2)
    found = error_gradient(image, linear, kept)
    for index in range(3):
        pixels, used = image[index].numpy().ravel(), kept[index].numpy().ravel()
        expected = 2 * weight.T @ (used * (weight @ pixels)) / max(used.sum(), 1)
        np.testing.assert_allclose(found[index].numpy().ravel(), np.abs(expected))
    assert (found[:2] > 0).any()
    assert (found[2] == 0).all()


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_works_where_no_gradient_is_recorded(
    mode: type, image: torch.Tensor, kept: torch.Tensor, linear: nn.Module
) -> None:
    expected = error_gradient(image, linear, kept)
    with mode():
        found = error_gradient(image * 1, linear, kept * 1)  # tensors that are made in this mode
    torch.testing.assert_close(found, expected)


def test_each_image_is_on_its_own(image: torch.Tensor, kept: torch.Tensor, linear: nn.Module) -> None:
    together = error_gradient(image, linear, kept)
    for index in range(3):
        one = slice(index, index + 1)
        torch.testing.assert_close(error_gradient(image[one], linear, kept[one]), together[one])


def test_leaves_image_and_network_alone(image: torch.Tensor, kept: torch.Tensor, linear: nn.Sequential) -> None:
    before = image.clone()
    error_gradient(image, linear, kept)
    assert torch.equal(image, before)
    assert not image.requires_grad
    assert linear[1].weight.grad is None
