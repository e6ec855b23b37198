from __future__ import annotations

import cv2
import numpy as np

from anomalib_xray.preparation.localization.division import divide


def discs(*centres: tuple[int, int]) -> np.ndarray:
    plane = np.zeros((100, 200), np.uint8)
    for centre in centres:
        cv2.circle(plane, centre, 30, 1, cv2.FILLED)
    return plane > 0


def box(*corners: float) -> np.ndarray:
    return np.array(corners, float)


def test_a_part_belongs_as_a_whole_to_the_box_that_holds_it() -> None:
    foreground = discs((50, 50), (150, 50))
    labels, touching = divide(foreground, [box(130, 25, 190, 80), box(25, 25, 70, 70)])
    assert not touching
    assert (labels == np.where(foreground, 1 + (np.arange(200) > 100), 0)).all()


def test_a_part_without_box_is_dropped() -> None:
    foreground = discs((50, 50), (150, 50))
    labels, _ = divide(foreground, [box(20, 20, 80, 80)])
    assert (labels == discs((50, 50))).all()


def test_a_part_that_two_boxes_hold_is_divided_between_them() -> None:
    foreground = discs((75, 50), (125, 50))
    labels, touching = divide(foreground, [box(45, 20, 105, 81), box(95, 20, 155, 81)])
    assert touching
    assert ((labels > 0) == foreground).all()
    assert (labels[:, :99] != 2).all()
    assert (labels[:, 101:] != 1).all()


def test_the_edge_of_another_box_takes_nothing() -> None:
    foreground = discs((50, 50), (150, 50))
    labels, touching = divide(foreground, [box(20, 20, 81, 81), box(70, 20, 181, 81)])
    assert not touching
    assert (labels[foreground] == np.where(np.nonzero(foreground)[1] < 100, 1, 2)).all()


def test_a_picture_without_mask_is_cut_at_the_boxes() -> None:
    labels, touching = divide(np.ones((100, 200), np.bool_), [box(10, 20, 60, 90)])
    expected = np.zeros((100, 200), np.int32)
    expected[20:90, 10:60] = 1
    assert not touching
    assert (labels == expected).all()


def test_boxes_without_foreground_and_no_boxes_give_no_hand() -> None:
    assert not divide(discs((50, 50)), [])[0].any()
    assert not divide(discs((50, 50)), [box(150, 10, 190, 90)])[0].any()
    assert not divide(np.zeros((4, 4), np.bool_), [box(0, 0, 4, 4)])[0].any()
