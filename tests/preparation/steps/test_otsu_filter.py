from __future__ import annotations

import cv2
import numpy as np
import pytest

from anomalib_xray.phantom import SceneOptions, render_phantom
from anomalib_xray.preparation.steps.otsu_filter import OtsuFilter


@pytest.fixture(scope="module")
def film() -> np.ndarray:
    return render_phantom(np.random.default_rng(3), SceneOptions(prepared=False)).image


def best_threshold(levels: np.ndarray) -> int:
    """Otsu's threshold by trying all: the one with the largest variance between the two classes."""

    def between(threshold: int) -> float:
        low, high = levels[levels <= threshold], levels[levels > threshold]
        return float(low.size * high.size * (low.mean() - high.mean()) ** 2) if low.size and high.size else 0.0

    return max(range(256), key=between)


def test_the_mask_is_otsus_on_the_equalised_and_smoothed_picture(film: np.ndarray) -> None:
    mask = OtsuFilter().plan(film).parameters["mask"]
    smoothed = cv2.medianBlur(cv2.equalizeHist(film), 19)
    np.testing.assert_array_equal(mask, smoothed > best_threshold(smoothed.astype(float)))


@pytest.mark.parametrize("factor", [1, 257])
def test_the_background_becomes_0_and_the_foreground_stays(film: np.ndarray, factor: int) -> None:
    image = np.maximum(film, 1) if factor == 1 else np.maximum(film, 1).astype(np.uint16) * np.uint16(factor)
    before = image.copy()
    step = OtsuFilter()
    plan = step.plan(image)
    mask = plan.parameters["mask"]
    filtered = step.apply(image, plan)
    assert mask.dtype == np.bool_
    assert set(plan.parameters) == {"mask"}
    assert filtered.dtype == image.dtype
    assert not filtered[~mask].any()
    np.testing.assert_array_equal(filtered[mask], image[mask])
    assert filtered[mask].min() >= 1
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(step.plan(image).parameters["mask"], mask)


def test_background_that_was_0_stays_0(film: np.ndarray) -> None:
    image = film.copy()
    image[::2, ::2] = 0
    step = OtsuFilter()
    plan = step.plan(image)
    assert plan.parameters["mask"][::2, ::2].any(), "the mask reaches there"
    assert not step.apply(image, plan)[::2, ::2].any()


def test_large_pictures_get_a_mask_of_their_size(film: np.ndarray) -> None:
    large = film.repeat(3, axis=0).repeat(3, axis=1)
    mask = OtsuFilter().plan(large).parameters["mask"]
    small = OtsuFilter().plan(film).parameters["mask"]
    assert mask.shape == large.shape
    assert (mask[1::3, 1::3] == small).mean() > 0.9


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (30, 20)])
def test_pictures_of_one_level_have_no_foreground(shape: tuple[int, int], dtype: type[np.uint8 | np.uint16]) -> None:
    for level in (0, 100, np.iinfo(dtype).max):
        plan = OtsuFilter().plan(np.full(shape, level, dtype))
        assert not plan.parameters
        assert plan.flags == ("no_foreground",)
