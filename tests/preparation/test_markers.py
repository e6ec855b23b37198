from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anomalib_xray.phantom import SceneOptions, render_phantom
from anomalib_xray.preparation.markers import BrightDetector, beside_body, body_of, filled

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


def test_a_box_through_which_the_body_runs_is_no_marker() -> None:
    view = np.full(SHAPE, 10, np.uint8)
    view[:, 50:60] = 100
    assert beside_body([box(30, 10, 80, 30)], 0.1, view == 100, view) == ([], True)


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


def scene() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A plate with a body (512, 400) on its right: soft tissue of 90 around a bone of 160."""
    view = np.full((512, 400), 20, np.uint8)
    view[200:, 220:340] = 90
    view[220:, 260:300] = 160
    return view, view >= 90


def write(view: NDArray[np.uint8], text: str, x: int, y: int, level: int = 240) -> None:
    cv2.putText(view, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 1, level, 4)


def found(view: NDArray[np.uint8], body: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    masks = []
    for box in BrightDetector().detect(view, body):
        mask = np.zeros(view.shape, np.uint8)
        cv2.fillConvexPoly(mask, np.rint(box).astype(np.int32), 1)
        masks.append(mask > 0)
    return masks


@pytest.mark.parametrize("text", ["L", "R", "LJM"])
def test_letters_close_together_are_one_marker(text: str) -> None:
    view, body = scene()
    write(view, text, 60, 120)
    (marker,) = found(view, body)
    assert marker[view > 200].mean() > 0.95
    assert not (marker & body).any()


def test_letters_far_apart_are_two_markers() -> None:
    view, body = scene()
    write(view, "L", 60, 120)
    write(view, "R", 60, 400)
    assert len(found(view, body)) == 2


def test_what_is_on_the_body_is_no_marker() -> None:
    view, body = scene()
    write(view, "L", 240, 400)
    assert found(view, body) == []


def test_what_touches_the_body_is_no_marker() -> None:
    view, body = scene()
    view[300:310, 180:225] = 240
    assert found(view, body) == []


def test_what_is_dimmer_than_the_body_is_no_marker() -> None:
    view, body = scene()
    write(view, "L", 60, 120, level=60)
    assert found(view, body) == []


def test_lines_of_a_frame_are_no_markers() -> None:
    view, body = scene()
    view[:4, 20:90] = 255
    view[:, :3] = 255
    assert found(view, body) == []


def test_bones_in_a_row_are_no_markers() -> None:
    view, _ = scene()
    # A finger that the estimate of the body misses: two phalanges in soft tissue, the far one somewhat dimmer.
    view[80:200, 240:270] = 70
    view[145:198, 247:263] = 160
    view[90:142, 247:263] = 140
    body = np.zeros(view.shape, np.bool_)
    body[143:, 220:340] = True
    assert found(view, body) == []


def test_a_large_bright_thing_is_no_marker() -> None:
    view, body = scene()
    view[40:180, 40:200] = 240
    assert found(view, body) == []


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (200, 200)])
def test_constant_pictures_have_no_markers(shape: tuple[int, int], level: int) -> None:
    view = np.full(shape, level, np.uint8)
    for body in (np.zeros(shape, np.bool_), np.ones(shape, np.bool_)):
        assert BrightDetector().detect(view, body) == []


@pytest.mark.parametrize("corner", [np.s_[:5, :20], np.s_[-6:, -9:], np.s_[40:60, :5]])
def test_rests_of_a_frame_are_no_markers(corner: tuple[slice, slice]) -> None:
    view, body = scene()
    view[corner] = 240
    assert found(view, body) == []


def test_a_slim_limb_is_a_body() -> None:
    view = np.random.default_rng(0).integers(18, 23, (500, 500), np.uint8)
    view[:400, 230:260] = 90
    view[:380, 240:250] = 150
    body = body_of(view)
    assert body is not None
    assert body[:400, 230:260].mean() > 0.98
    assert body.mean() < 0.08
