from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from anomalib_xray.scores import dissimilarity
from anomalib_xray.scores.structural import WINDOW

EDGE = WINDOW // 2


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
