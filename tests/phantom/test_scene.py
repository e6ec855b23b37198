from __future__ import annotations

import cv2
import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.phantom.anomalies import ANOMALY_KINDS, SKELETON_KINDS
from anomalib_xray.phantom.exposure import ARMS, PREPARED, RAW, SceneOptions
from anomalib_xray.phantom.scene import Phantom, render_phantom


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def raw(seed: int, **probabilities: float) -> Phantom:
    return render_phantom(np.random.default_rng(seed), SceneOptions(prepared=False, **probabilities))


@pytest.mark.parametrize("seed", range(6))
def test_prepared_background_is_zero_and_foreground_at_least_one(seed: int) -> None:
    phantom = render_phantom(np.random.default_rng(seed), PREPARED)
    assert phantom.image.dtype == np.uint8
    assert ((phantom.image > 0) == phantom.foreground).all()
    assert 0.08 < phantom.foreground.mean() < 0.8
    assert max(phantom.image.shape) == 512
    assert 350 <= min(phantom.image.shape) <= 450
    assert phantom.hand_boxes == (bounding_box(phantom.foreground),)


def test_both_formats_and_both_sides_occur() -> None:
    phantoms = [render_phantom(np.random.default_rng(seed), SceneOptions(landscape=0.5)) for seed in range(10)]
    assert {phantom.image.shape[0] == 512 for phantom in phantoms} == {True, False}
    assert {phantom.sides for phantom in phantoms} == {("L",), ("R",)}


@pytest.mark.parametrize("kind", [None, "plate", "extra_phalanx"])
def test_the_same_state_draws_the_same(kind: str | None) -> None:
    first, second = (render_phantom(np.random.default_rng(8), RAW, kind=kind) for _ in range(2))
    assert (first.image == second.image).all()
    assert first.hand_boxes == second.hand_boxes


@pytest.mark.parametrize("kind", ANOMALY_KINDS)
def test_anomalies_lie_in_the_foreground(kind: str) -> None:
    phantom = render_phantom(np.random.default_rng(21), kind=kind)
    assert phantom.kind == kind
    assert phantom.anomaly is not None
    assert phantom.anomaly.any()
    assert not (phantom.anomaly & ~phantom.foreground).any()
    assert ((phantom.image > 0) == phantom.foreground).all()


@pytest.mark.parametrize("seed", range(3))
def test_a_missing_phalanx_darkens_and_an_extra_one_widens_the_hand(seed: int) -> None:
    healthy = render_phantom(np.random.default_rng(seed))
    missing, extra = (render_phantom(np.random.default_rng(seed), kind=kind) for kind in SKELETON_KINDS)
    assert missing.anomaly is not None
    assert extra.anomaly is not None
    assert (missing.foreground == healthy.foreground).all()
    assert missing.image[missing.anomaly].mean() < healthy.image[missing.anomaly].mean() - 8
    assert (missing.image != healthy.image)[~missing.anomaly].mean() < 0.1
    grown = extra.foreground & ~healthy.foreground
    assert grown.sum() > 100
    assert (grown & extra.anomaly).sum() > 0.8 * grown.sum()


def test_two_hands_have_two_boxes_that_hold_the_foreground() -> None:
    phantom = raw(0, second_hand=1.0)
    assert phantom.sides == ("L", "R")
    assert phantom.image.shape[1] == 512
    rest = phantom.foreground.copy()
    for x0, y0, x1, y1 in phantom.hand_boxes:
        assert rest[y0:y1, x0:x1].sum() > 3000
        rest[y0:y1, x0:x1] = False
    assert not rest.any()


@pytest.mark.parametrize("seed", range(4))
def test_touching_hands_are_one_part_of_the_foreground(seed: int) -> None:
    phantom = raw(seed, second_hand=1.0, touching=1.0)
    parts, _ = cv2.connectedComponents(phantom.foreground.astype(np.uint8))
    assert parts == 2  # the background counts
    left, right = phantom.hand_boxes
    assert left[0] < right[0] < left[2] < right[2]
    x0, y0, x1, y1 = bounding_box(phantom.foreground)
    assert (x0, x1) == (left[0], right[2])
    assert (y0, y1) == (min(left[1], right[1]), max(left[3], right[3]))


def test_hands_that_do_not_touch_are_drawn_as_before_and_one_hand_touches_nothing() -> None:
    assert (raw(3, touching=1.0).image == raw(3).image).all()
    together, apart = raw(3, second_hand=1.0, touching=1.0), raw(3, second_hand=1.0)
    assert together.foreground.shape == apart.foreground.shape
    assert (together.foreground != apart.foreground).any()


def test_inversion_turns_bones_dark() -> None:
    upright, inverted = raw(4), raw(4, inverted=1.0)
    assert inverted.inverted
    assert not upright.inverted
    assert (inverted.image == 255 - upright.image).all()


def test_markers_are_bright_inside_their_boxes() -> None:
    with_marker, without = raw(5, marker=1.0), raw(5)
    assert without.marker_boxes == ()
    (box,) = with_marker.marker_boxes
    x0, y0, x1, y1 = box
    inside = with_marker.image[y0:y1, x0:x1]
    assert inside.max() > 1.5 * np.median(inside)
    assert not with_marker.foreground[y0:y1, x0:x1].any()


def test_a_carrier_has_black_surroundings_outside_its_corners() -> None:
    phantom = raw(2, carrier=1.0)
    assert phantom.carrier_corners is not None
    corners = np.array(phantom.carrier_corners)
    assert corners.shape == (4, 2)
    assert phantom.image[0, 0] <= 3
    centre = corners.mean(axis=0)
    assert centre == pytest.approx(np.array(phantom.image.shape[::-1]) / 2, abs=1)
    assert phantom.hand_boxes == (bounding_box(phantom.foreground),)


def test_raw_backgrounds_keep_grey_levels_and_noise() -> None:
    phantom = raw(1)
    background = phantom.image[~phantom.foreground]
    assert background.std() > 0.3
    assert background.mean() > 0.5


def test_impossible_options_are_refused() -> None:
    with pytest.raises(XrayError, match="probability from 0 to 1"):
        SceneOptions(landscape=1.5)
    with pytest.raises(XrayError, match="prepared=False"):
        SceneOptions(marker=0.5)
    with pytest.raises(XrayError, match="Unknown kind of anomaly 'rust'"):
        render_phantom(np.random.default_rng(0), kind="rust")


@pytest.mark.parametrize(
    ("options", "kind", "seed", "pixels", "grey", "following"),
    [
        (PREPARED, None, 0, 61228, 26.3840, 1829227047),
        (PREPARED, "plate", 3, 64603, 30.1089, 3929669910),
        (RAW, None, 3, 43986, 28.3994, 1658135661),
        (RAW, "plate", 0, 61228, 48.6558, 1608852937),
    ],
)
def test_pictures_without_arms_are_those_of_earlier_versions(
    options: SceneOptions, kind: str | None, seed: int, pixels: int, grey: float, following: int
) -> None:
    rng = np.random.default_rng(seed)
    phantom = render_phantom(rng, options, kind=kind)
    assert phantom.foreground.sum() == pytest.approx(pixels, rel=1e-3)
    assert phantom.image.mean() == pytest.approx(grey, abs=0.02)
    assert int(rng.integers(2**32)) == following  # no more and no fewer random numbers were drawn


def arm(seed: int, **probabilities: float) -> Phantom:
    options = {"arm": 1.0, "plate": 1.0, "landscape": 0.0, **probabilities}
    return render_phantom(np.random.default_rng(seed), SceneOptions(prepared=False, **options))


@pytest.mark.parametrize("seed", range(6))
def test_arms_leave_the_picture_and_have_an_axis(seed: int) -> None:
    phantom = render_phantom(np.random.default_rng(seed), ARMS)
    height, width = phantom.image.shape
    assert max(height, width) == 512
    assert 0.01 < phantom.foreground.mean() < 0.9
    assert len(phantom.axes) == len(phantom.sides) == len(phantom.mirrored) == len(phantom.hand_boxes)
    assert np.hypot(*np.transpose(phantom.axes)) == pytest.approx(1)
    assert phantom.mirrored == tuple(side == "R" for side in phantom.sides)
    x0, y0, x1, y1 = phantom.hand_boxes[0]
    if len(phantom.exposures) == 1:
        assert x0 == 0 or y0 == 0 or x1 == width or y1 == height


@pytest.mark.parametrize("seed", range(4))
def test_two_exposures_share_the_picture_and_keep_their_arms(seed: int) -> None:
    phantom = arm(seed, exposures=1.0)
    assert len(phantom.exposures) == len(phantom.hand_boxes) == 2
    shares = []
    for polygon in phantom.exposures:
        plane = np.zeros(phantom.image.shape, np.uint8)
        cv2.fillPoly(plane, [np.round(polygon).astype(np.int32)], 1)
        shares.append(plane > 0)
    assert (shares[0] & shares[1]).mean() < 0.01
    assert (shares[0] | shares[1]).mean() > 0.85
    for (x0, y0, x1, y1), share in zip(phantom.hand_boxes, shares, strict=True):
        assert (phantom.foreground & share)[y0:y1, x0:x1].sum() > 500
    between = cv2.dilate((shares[0] | shares[1]).astype(np.uint8), np.ones((5, 5))) == 0
    assert not (phantom.foreground & between).any()


@pytest.mark.parametrize("seed", range(4))
def test_the_axis_points_from_the_elbow_to_the_hand(seed: int) -> None:
    hand = raw(seed)
    (axis,) = hand.axes
    rows, columns = np.nonzero(hand.foreground)
    centre = np.array([columns.mean(), rows.mean()])
    border = hand.foreground.copy()
    border[1:-1, 1:-1] = False
    rows, columns = np.nonzero(border)
    assert (centre - (columns.mean(), rows.mean())) @ np.array(axis) > 0  # the forearm leaves the picture behind it
    turned = raw(seed, carrier=1.0)
    assert np.array(turned.axes[0]) @ np.array(axis) > 0.9


def test_casts_and_metal_belong_to_the_foreground() -> None:
    plain, dressed = (arm(1, cast=share, metal=share) for share in (0.0, 1.0))
    assert plain.foreground.shape == dressed.foreground.shape
    assert dressed.foreground.sum() > plain.foreground.sum()


def test_a_plate_is_grey_and_a_strip_white_background() -> None:
    plates = [arm(seed, strip=1.0) for seed in range(6)]
    assert np.median([np.median(plate.image[~plate.foreground]) for plate in plates]) > 8
    assert max((plate.image[~plate.foreground] > 180).mean() for plate in plates) > 0.02


def test_a_helper_belongs_to_the_foreground_but_is_no_hand_of_the_picture() -> None:
    phantoms = [arm(seed, helper=1.0) for seed in range(4)]
    assert all(len(phantom.hand_boxes) == 1 for phantom in phantoms)
    beyond = []
    for phantom in phantoms:
        x0, y0, x1, y1 = phantom.hand_boxes[0]
        beyond.append(phantom.foreground.sum() - phantom.foreground[y0:y1, x0:x1].sum())
    assert max(beyond) > 500


def test_a_prepared_arm_has_no_background_and_a_prepared_plate_is_refused() -> None:
    phantom = render_phantom(np.random.default_rng(0), SceneOptions(arm=1.0, cast=1.0))
    assert ((phantom.image > 0) == phantom.foreground).all()
    with pytest.raises(XrayError, match="prepared=False"):
        SceneOptions(plate=0.5)


def test_a_changed_skeleton_in_a_cast_changes_nothing_but_the_skeleton() -> None:
    options = SceneOptions(arm=1.0, cast=1.0)
    for seed in range(12):
        healthy = render_phantom(np.random.default_rng(seed), options)
        try:
            missing = render_phantom(np.random.default_rng(seed), options, kind="missing_phalanx")
        except XrayError:  # the hand is too small, or outside the picture
            continue
        assert missing.anomaly is not None
        assert missing.anomaly.mean() < 0.05
        assert (missing.image != healthy.image)[~missing.anomaly].mean() < 0.1
        return
    pytest.fail("no arm showed its phalanges")
