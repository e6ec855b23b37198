from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph
from anomalib_xray.preparation.steps.resize import Resize


def disc(shape: tuple[int, int], level: int, dtype: type[np.uint8 | np.uint16] = np.uint8) -> Radiograph:
    y, x = np.indices(shape)
    inside = (y - shape[0] / 2) ** 2 + (x - shape[1] / 2) ** 2 < (0.4 * min(shape)) ** 2
    return np.where(inside, level, 0).astype(dtype)


def resized(image: Radiograph, step: Resize) -> Radiograph:
    return step.apply(image, step.plan(image))


@pytest.mark.parametrize("shape", [(700, 500), (500, 700), (3000, 2000), (600, 2)])
def test_the_longest_side_is_reached_and_the_aspect_stays(shape: tuple[int, int]) -> None:
    image = np.full(shape, 7, np.uint8)
    after = resized(image, Resize(512)).shape
    assert max(after) == 512
    assert min(after) == max(round(min(shape) * 512 / max(shape)), 1)


def test_smaller_pictures_pass_unless_they_are_to_be_enlarged() -> None:
    small = np.full((100, 50), 9, np.uint8)
    assert not Resize(512).plan(small).parameters
    assert resized(small, Resize(200, enlarge=True)).shape == (200, 100)
    assert not Resize(100, enlarge=True).plan(small).parameters, "it has the size already"


def test_a_square_loses_the_aspect_and_nothing_else() -> None:
    wide = np.full((100, 300), 9, np.uint8)
    wide[:, 150:] = 30
    after = resized(wide, Resize(200, square=True))
    assert after.shape == (200, 200)
    assert (after[:, :99] == 9).all()
    assert (after[:, 101:] == 30).all()
    assert not Resize(200, square=True).plan(after).parameters, "it has the size already"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("side", [151, 333, 900])
def test_the_background_does_not_fade_the_rim_of_a_hand(side: int, dtype: type[np.uint8 | np.uint16]) -> None:
    level = np.iinfo(dtype).max - 5
    image = disc((600, 400), level, dtype)
    after = resized(image, Resize(side, enlarge=True))
    assert after.dtype == dtype
    assert set(np.unique(after).tolist()) == {0, level}
    assert (after > 0).mean() == pytest.approx((image > 0).mean(), abs=0.005)


def test_the_faintest_foreground_stays_foreground() -> None:
    assert set(np.unique(resized(disc((600, 400), 1), Resize(150))).tolist()) == {0, 1}


def test_shrinking_to_half_averages_four_pixels() -> None:
    image = np.random.default_rng(0).integers(1, 256, (400, 300), np.uint8)
    mean = image.reshape(200, 2, 150, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(resized(image, Resize(200)), mean, atol=0.5)


def test_pixels_of_background_are_left_out_of_the_average() -> None:
    image = np.array([[0, 10, 0, 0], [20, 30, 0, 40]], np.uint8)
    np.testing.assert_array_equal(resized(image, Resize(2)), [[20, 0]])


def test_enlarging_a_picture_without_background_is_opencvs_bilinear() -> None:
    image = np.random.default_rng(0).integers(1, 256, (40, 30), np.uint8)
    bilinear = cv2.resize(image, (75, 100), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(resized(image, Resize(100, enlarge=True)), bilinear, atol=1)


@pytest.mark.parametrize("side", [100, 800])
def test_the_matrix_leads_to_the_same_place(side: int) -> None:
    image = np.zeros((400, 300), np.uint8)
    cv2.circle(image, (70, 250), 20, 255, -1)
    step = Resize(side, enlarge=True)
    after = step.apply(image, step.plan(image))
    expected = step.matrix(step.plan(image)) @ [70, 250, 1]
    centre = np.argwhere(after).mean(axis=0)[::-1]
    np.testing.assert_allclose(centre, expected[:2], atol=0.3)


def test_the_input_stays_and_the_plan_is_json() -> None:
    image = disc((600, 400), 99)
    before = image.copy()
    plan = Resize(100).plan(image)
    Resize(100).apply(image, plan)
    np.testing.assert_array_equal(image, before)
    assert json.loads(json.dumps(dict(plan.parameters))) == {"before": [600, 400], "after": [100, 67]}


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (1, 3000)])
@pytest.mark.parametrize("level", [0, 1, 255])
def test_tiny_and_constant_pictures_keep_their_level(shape: tuple[int, int], level: int) -> None:
    after = resized(np.full(shape, level, np.uint8), Resize(20, enlarge=True))
    assert max(after.shape) == 20
    assert (after == level).all()


def test_an_impossible_size_is_refused() -> None:
    with pytest.raises(XrayError, match="longest_side is 0"):
        Resize(0)
