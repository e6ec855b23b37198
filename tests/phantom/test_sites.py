from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.phantom.exposure import SceneOptions
from anomalib_xray.phantom.scene import render_phantom
from anomalib_xray.phantom.sites import Site, bone_contrast, bone_sites, finger_sites, rough_foreground

FOREGROUND = np.zeros((400, 400), np.bool_)
FOREGROUND[20:380, 100:300] = True


def rod(degrees: float) -> np.ndarray:
    """A bright bar, 24 wide and 200 long, on dim tissue."""
    image = np.where(FOREGROUND, 60, 0).astype(np.uint8)
    box = cv2.boxPoints(((200, 200), (24, 200), degrees))
    cv2.fillConvexPoly(image, np.round(box).astype(np.int32), 150)
    return image


def test_coordinates_run_along_and_across() -> None:
    u, v = Site((10, 20), (0.0, 1.0), 3, (5, 5)).coordinates((40, 40))
    assert u[25, 10] == 5
    assert abs(v[20, 13]) == 3
    assert v[25, 10] == 0


def test_contrast_is_positive_on_bone_and_zero_outside() -> None:
    contrast = bone_contrast(rod(0), FOREGROUND)
    assert contrast[200, 200] > 0.1
    assert (contrast[~FOREGROUND] == 0).all()


@pytest.mark.parametrize("degrees", [0, 30, -45])
def test_bone_sites_lie_along_the_bone(degrees: float) -> None:
    sites = list(itertools.islice(bone_sites(rod(degrees), FOREGROUND, np.random.default_rng(0)), 10))
    assert sites
    axis = (-np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees)))
    for site in sites:
        assert abs(np.dot(site.along, axis)) > 0.97
        assert site.half_width == pytest.approx(12, abs=4)
        across = abs((site.centre[0] - 200) * axis[1] - (site.centre[1] - 200) * axis[0])
        assert across < 6


def test_fingers_are_the_slim_parts() -> None:
    hand = np.zeros((400, 400), np.bool_)
    hand[200:, 100:300] = True
    hand[50:200, 180:216] = True
    sites = list(finger_sites(hand, np.random.default_rng(0)))
    assert sites
    for site in sites:
        assert site.centre[1] < 200
        assert site.half_width == pytest.approx(18, abs=2)
        assert abs(site.along[1]) > 0.97


def test_an_empty_foreground_has_no_sites() -> None:
    nothing = np.zeros((64, 64), np.bool_)
    assert list(bone_sites(np.zeros((64, 64), np.uint8), nothing, np.random.default_rng(0))) == []
    assert list(finger_sites(nothing, np.random.default_rng(0))) == []


@pytest.mark.parametrize("seed", range(4))
def test_the_hand_of_a_raw_phantom_is_found(seed: int) -> None:
    phantom = render_phantom(np.random.default_rng(seed), SceneOptions(prepared=False, marker=1.0))
    found = rough_foreground(phantom.image)
    overlap = (found & phantom.foreground).sum() / (found | phantom.foreground).sum()
    assert overlap > 0.8


def test_holes_are_filled_and_small_parts_dropped() -> None:
    image = np.zeros((200, 200), np.uint8)
    image[40:160, 40:160] = 150
    image[90:110, 90:110] = 0
    image[5:15, 5:15] = 255
    found = rough_foreground(image)
    assert found[100, 100]
    assert not found[10, 10]


def test_unusable_images_are_refused() -> None:
    with pytest.raises(XrayError, match="all equal"):
        rough_foreground(np.full((20, 20), 7, np.uint8))
    with pytest.raises(XrayError, match="grey 8-bit"):
        rough_foreground(np.zeros((20, 20, 3), np.uint8))
