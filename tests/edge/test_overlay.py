from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from anomalib_xray.edge.overlay import draw_overlay
from anomalib_xray.edge.result import Result, View
from anomalib_xray.io.read import to_unit_interval

SIDE = 700
"""At least the shortest side, so that nothing is enlarged and pixels can be compared."""


def radiograph(level: int = 120, shape: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    return np.full(shape, level, np.uint8)


def predicted(
    heat_map: np.ndarray | None,
    *,
    pixel_threshold: float | None = 1.0,
    percentile: float | None = None,
    views: Sequence[View] = (),
) -> Result:
    return Result(
        model="Cae",
        scores={"mse": 2.0},
        percentiles={"mse": percentile},
        score="mse",
        value=2.0,
        threshold=1.0,
        is_anomalous=True,
        heat_map=heat_map,
        pixel_threshold=pixel_threshold,
        map_limits=None,
        views=list(views),
        flags=[],
    )


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


def seen(left: float, top: float, right: float, bottom: float) -> View:
    outline = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return View("view", radiograph(), {}, None, outline=outline)


def test_a_frame_shows_what_was_looked_at() -> None:
    plain = draw_overlay(radiograph(), predicted(None), "image1.png")
    framed = draw_overlay(radiograph(), predicted(None, views=[seen(100, 200, 300, 400)]), "image1.png")
    changed = np.argwhere((plain[:SIDE] != framed[:SIDE]).any(axis=2))
    assert changed.min(axis=0) == pytest.approx([200, 100], abs=1)
    assert changed.max(axis=0) == pytest.approx([400, 300], abs=1)
    np.testing.assert_array_equal(plain[210:390, 110:290], framed[210:390, 110:290])


@pytest.mark.parametrize(
    "views",
    [
        [],
        [View("view", radiograph(), {}, None)],
        [seen(-0.5, -0.5, SIDE - 0.5, SIDE - 0.5)],
        [seen(3, 3, SIDE - 3, SIDE - 3)],
        [seen(0, 0, 350, SIDE), seen(350, 0, SIDE, SIDE)],
    ],
)
def test_no_frame_where_everything_was_looked_at(views: list[View]) -> None:
    picture = draw_overlay(radiograph(), predicted(None, views=views), "image1.png")
    np.testing.assert_array_equal(picture[:SIDE], 120)


def test_every_row_of_a_tall_picture_is_blended_alike() -> None:
    shape = (1500, SIDE)
    picture = draw_overlay(radiograph(120, shape), predicted(np.full(shape, 0.8, np.float32)), "image1.png")
    np.testing.assert_array_equal(picture[:1500], np.broadcast_to(picture[0, 0], (1500, SIDE, 3)))
    assert colourfulness(picture, 0) > 0


def test_the_percentile_is_written_where_it_is_known() -> None:
    without = draw_overlay(radiograph(), predicted(None), "image1.png")
    given = draw_overlay(radiograph(), predicted(None, percentile=97.25), "image1.png")
    np.testing.assert_array_equal(without[:SIDE], given[:SIDE])
    assert (without[SIDE:] != given[SIDE:]).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_levels_are_those_of_the_unit_interval(dtype: type[np.uint8 | np.uint16]) -> None:
    image = np.random.default_rng(0).integers(0, 200 if dtype is np.uint8 else 4000, (SIDE, SIDE)).astype(dtype)
    expected = (to_unit_interval(image) * 255).round()
    np.testing.assert_array_equal(draw_overlay(image, predicted(None), "image1.png")[:SIDE, :, 0], expected)


def test_sixteen_bits_are_shown_by_their_own_range() -> None:
    image = np.full((SIDE, SIDE), 3000, np.uint16)
    assert draw_overlay(image, predicted(None), "image1.png")[:SIDE].min() == 255


def test_long_names_keep_their_end_and_leave_the_verdict_alone() -> None:
    short = draw_overlay(radiograph(), predicted(None), "x/1.png")
    long = draw_overlay(radiograph(), predicted(None), "patient/" * 40 + "x/1.png")
    other = draw_overlay(radiograph(), predicted(None), "patient/" * 40 + "x/2.png")
    np.testing.assert_array_equal(short[SIDE:, -100:], long[SIDE:, -100:])
    assert (long != other).any()
