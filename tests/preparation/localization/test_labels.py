from __future__ import annotations

import cv2
import numpy as np
import pytest

from anomalib_xray.preparation.localization.labels import from_left, is_plate


def test_hands_are_numbered_from_left_without_gaps() -> None:
    labels = np.array([[0, 7, 7, 0, 2], [5, 7, 0, 0, 2]], np.int32)
    assert from_left(labels).tolist() == [[0, 2, 2, 0, 3], [1, 2, 0, 0, 3]]


def test_an_empty_plane_stays_empty() -> None:
    assert not from_left(np.zeros((3, 4), np.int32)).any()


@pytest.mark.parametrize("degrees", [0, 11, 45])
def test_a_turned_carrier_is_a_plate_even_with_holes(degrees: float) -> None:
    corners = cv2.boxPoints(((100, 100), (120, 80), degrees))
    body = np.zeros((200, 200), np.uint8)
    cv2.fillPoly(body, [np.rint(corners).astype(np.int32)], 1)
    body[95:105, 80:120] = 0
    assert is_plate(body > 0)


def test_a_disc_is_no_plate() -> None:
    body = np.zeros((200, 200), np.uint8)
    cv2.circle(body, (100, 100), 60, 1, cv2.FILLED)
    assert not is_plate(body > 0)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_what_has_no_area_is_a_plate(shape: tuple[int, int]) -> None:
    assert is_plate(np.ones(shape, np.bool_))
