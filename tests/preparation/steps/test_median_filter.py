from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph
from anomalib_xray.preparation.steps.median_filter import MedianFilter, median


def by_sorting(image: Radiograph, kernel: int) -> NDArray[np.float64]:
    padded = np.pad(image, kernel // 2, mode="edge")
    return np.median(sliding_window_view(padded, (kernel, kernel)), axis=(2, 3))


@pytest.mark.parametrize("kernel", [3, 7, 19])
@pytest.mark.parametrize("top", [255, 4095, 65535])
def test_the_median_is_exact_at_every_depth(kernel: int, top: int) -> None:
    dtype = np.uint8 if top == 255 else np.uint16
    image = np.random.default_rng(0).integers(0, top + 1, (40, 33)).astype(dtype)
    image[:, 20:] //= 50
    np.testing.assert_array_equal(median(image, kernel), by_sorting(image, kernel))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_background_stays_exact_and_the_input_unchanged(dtype: type[np.uint8 | np.uint16]) -> None:
    image = np.zeros((60, 50), dtype)
    image[20:40, 20:30] = np.iinfo(dtype).max
    image[5, 5] = 300 if dtype == np.uint16 else 200
    before = image.copy()
    step = MedianFilter(9)
    plan = step.plan(image)
    filtered = step.apply(image, plan)
    assert filtered.dtype == dtype
    np.testing.assert_array_equal(filtered > 0, image > 0)
    assert filtered[5, 5] == 1, "a single bright pixel becomes the faintest foreground"
    np.testing.assert_array_equal(image, before)
    assert json.loads(json.dumps(dict(plan.parameters))) == {"kernel": 9}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (30, 20)])
def test_constant_pictures_stay_however_small(shape: tuple[int, int], dtype: type[np.uint8 | np.uint16]) -> None:
    step = MedianFilter()
    for level in (0, 100, np.iinfo(dtype).max):
        image = np.full(shape, level, dtype)
        np.testing.assert_array_equal(step.apply(image, step.plan(image)), image)


@pytest.mark.parametrize("kernel", [-3, 1, 18, 257])
def test_impossible_kernels_are_refused(kernel: int) -> None:
    with pytest.raises(XrayError, match=f"kernel is {kernel}; choose an odd number"):
        MedianFilter(kernel)
