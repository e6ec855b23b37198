from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anomalib_xray.preparation.markers.bright_detector import BrightDetector


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
