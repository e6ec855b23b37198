from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.phantom import SceneOptions, render_phantom
from anomalib_xray.preparation.markers.body import beside_body, body_of, filled

SHAPE = (100, 120)


def box(x0: int, y0: int, x1: int, y1: int) -> NDArray[np.float32]:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)


def body_and_view() -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    body = np.zeros(SHAPE, np.bool_)
    body[:, 60:] = True
    return body, np.where(body, 100, 10).astype(np.uint8)


def test_the_body_covers_the_hand() -> None:
    scene = render_phantom(np.random.default_rng(1), SceneOptions(prepared=False))
    body = body_of(scene.image)
    assert body is not None
    assert body[scene.foreground].mean() > 0.98
    assert body[~scene.foreground].mean() < 0.1


def test_a_picture_that_shows_nothing_has_no_body() -> None:
    assert body_of(np.zeros((60, 50), np.uint8)) is None
    assert body_of(np.full((60, 50), 255, np.uint8)) is None
    assert body_of(np.zeros((1, 1), np.uint8)) is None


def test_a_box_beside_the_body_gets_its_margin() -> None:
    body, view = body_and_view()
    (polygon,), touching = beside_body([box(10, 10, 30, 20)], 0.2, body, view)
    assert not touching
    np.testing.assert_allclose(polygon.min(axis=0), [9, 9], atol=1e-3)
    np.testing.assert_allclose(polygon.max(axis=0), [31, 21], atol=1e-3)


def test_a_box_on_the_outline_is_clipped() -> None:
    body, view = body_and_view()
    polygons, touching = beside_body([box(30, 10, 65, 20)], 0, body, view)
    assert touching
    np.testing.assert_array_equal(filled(polygons, SHAPE), filled([box(30, 10, 59, 20)], SHAPE))


def test_a_box_mostly_on_the_body_is_dropped() -> None:
    body, view = body_and_view()
    assert beside_body([box(55, 10, 90, 20)], 0, body, view) == ([], True)


def test_a_box_within_the_body_is_a_bone() -> None:
    body, view = body_and_view()
    assert beside_body([box(70, 10, 90, 20)], 0, body, view) == ([], False)


def test_a_marker_that_joined_the_body_in_the_estimate_is_filled_without_a_margin() -> None:
    body, view = body_and_view()
    body[8:24, 20:60] = True
    view[12:20, 26:44] = 255
    marker = box(22, 10, 48, 22)
    (polygon,), touching = beside_body([marker], 0.25, body, view)
    assert not touching
    np.testing.assert_array_equal(polygon, marker)


def test_a_box_within_another_is_left_out() -> None:
    body, view = body_and_view()
    polygons, _ = beside_body([box(15, 12, 20, 18), box(10, 10, 30, 20)], 0, body, view)
    assert len(polygons) == 1


def test_filling_adds_up_where_polygons_overlap() -> None:
    both = filled([box(10, 10, 30, 30), box(20, 20, 40, 40)], SHAPE)
    assert both[25, 25]
    assert both.sum() == 2 * 21 * 21 - 11 * 11
