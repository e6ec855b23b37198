from __future__ import annotations

import numpy as np
import pytest

from anomalib_xray.edge.overlay import draw_overlay
from anomalib_xray.edge.runtime import Prediction

SIDE = 700
"""At least the shortest side, so that nothing is enlarged and pixels can be compared."""


def radiograph(level: int = 120, shape: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    return np.full(shape, level, np.uint8)


def predicted(heat_map: np.ndarray | None, *, pixel_threshold: float | None = 1.0, score: float = 2.0) -> Prediction:
    return Prediction(score, None, 1.0, heat_map, pixel_threshold)


def stripes(*levels: float) -> np.ndarray:
    """A map of vertical stripes of equal width."""
    return np.repeat(np.array(levels, np.float32), SIDE // len(levels))[np.newaxis].repeat(SIDE, axis=0)


def colourfulness(picture: np.ndarray, column: int) -> int:
    pixel = picture[SIDE // 2, column].astype(int)
    return int(pixel.max() - pixel.min())


def test_the_footer_lies_below_the_picture() -> None:
    picture = draw_overlay(radiograph(), predicted(stripes(0, 0)), "image1.png")
    assert picture.shape[0] > SIDE
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[:SIDE], 120)
    assert picture[SIDE:].max() > 200


def test_colour_grows_up_to_the_threshold_and_covers_half_at_most() -> None:
    picture = draw_overlay(radiograph(), predicted(stripes(0, 0.4, 0.6, 0.8, 1.0, 1.9, 50)), "image1.png")
    zero, below, faint, stronger, reached, above, far = (colourfulness(picture, 50 + 100 * n) for n in range(7))
    assert zero == below == 0
    assert 0 < faint < stronger < reached
    assert above > 0
    assert far > 0
    assert picture[SIDE // 2, 650].min() > 120 * 0.5 - 1


def test_the_scale_does_not_depend_on_the_rest_of_the_picture() -> None:
    alone = draw_overlay(radiograph(), predicted(stripes(0.8, 0.1)), "image1.png")
    beside = draw_overlay(radiograph(), predicted(stripes(0.8, 30.0)), "image1.png")
    np.testing.assert_array_equal(alone[:SIDE, :300], beside[:SIDE, :300])


def test_a_line_surrounds_what_reaches_the_threshold() -> None:
    heat_map = np.zeros((SIDE, SIDE), np.float32)
    heat_map[200:300, 200:300] = 1.0
    picture = draw_overlay(radiograph(), predicted(heat_map), "image1.png")
    assert (picture[250, 200] > 200).all()
    assert (picture[250, 250] < 200).any()
    heat_map[200:300, 200:300] = 0.99
    assert draw_overlay(radiograph(), predicted(heat_map), "image1.png")[:SIDE].max() < 200


@pytest.mark.parametrize("pixel_threshold", [None, 0.0, -3.0, 1.0])
@pytest.mark.parametrize("level", [-5.0, 0.0, 2.0])
def test_even_maps_and_thresholds_at_or_below_zero_can_be_drawn(pixel_threshold: float | None, level: float) -> None:
    heat_map = np.full((SIDE, SIDE), level, np.float32)
    picture = draw_overlay(radiograph(), predicted(heat_map, pixel_threshold=pixel_threshold), "image1.png")
    reaches = pixel_threshold is not None and level >= pixel_threshold
    assert (colourfulness(picture, 350) > 0) is reaches


def test_without_map_the_radiograph_is_shown_as_it_is() -> None:
    picture = draw_overlay(radiograph(77), predicted(None), "image1.png")
    np.testing.assert_array_equal(picture[:SIDE], 77)


@pytest.mark.parametrize("shape", [(64, 64), (90, 30), (30, 90), (1, 1), (2000, 50)])
def test_small_and_narrow_pictures_become_legible(shape: tuple[int, int]) -> None:
    picture = draw_overlay(radiograph(120, shape), predicted(np.zeros(shape, np.float32)), "image1.png")
    assert picture.shape[1] >= 640
    assert picture.shape[0] > shape[0]


def test_sixteen_bits_are_shown_by_their_own_range() -> None:
    image = np.full((SIDE, SIDE), 3000, np.uint16)
    assert draw_overlay(image, predicted(None), "image1.png")[:SIDE].min() == 255


def test_long_names_keep_their_end_and_leave_the_verdict_alone() -> None:
    short = draw_overlay(radiograph(), predicted(None), "x/1.png")
    long = draw_overlay(radiograph(), predicted(None), "patient/" * 40 + "x/1.png")
    other = draw_overlay(radiograph(), predicted(None), "patient/" * 40 + "x/2.png")
    np.testing.assert_array_equal(short[SIDE:, -100:], long[SIDE:, -100:])
    assert (long != other).any()
