from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from anomalib_xray.errors import XrayError
from anomalib_xray.scores import (
    RECONSTRUCTION_SCORES,
    error_scores,
    masked_mean,
    masked_top_k_mean,
    reconstruction_errors,
    reconstruction_scores,
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
