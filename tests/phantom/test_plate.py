from __future__ import annotations

import numpy as np
import pytest

from anomalib_xray.phantom.anatomy import build_hand, sample_anatomy, sample_pose
from anomalib_xray.phantom.attenuation import tissue_mask
from anomalib_xray.phantom.hand import Hand
from anomalib_xray.phantom.plate import bring_together, place_hands, place_marker, sample_carrier


def hands(sides: str, seed: int) -> list[Hand]:
    rng = np.random.default_rng(seed)
    person = sample_anatomy(rng)
    return [build_hand(person, sample_pose(rng), side) for side in sides]


@pytest.mark.parametrize("shape", [(512, 380), (380, 512)])
@pytest.mark.parametrize("sides", ["L", "R", "LR"])
@pytest.mark.parametrize("seed", range(5))
def test_fingers_lie_in_their_share_and_the_forearm_leaves_the_picture(
    shape: tuple[int, int], sides: str, seed: int
) -> None:
    placed = hands(sides, seed)
    placements = place_hands(placed, shape, np.random.default_rng(seed))
    width = shape[1] / len(placed)
    for position, (hand, placement) in enumerate(zip(placed, placements, strict=True)):
        tips = placement.points([bone.head for bone in hand.bones if bone.name.startswith("distal")])
        assert (tips >= (position * width, 0)).all()
        assert (tips <= ((position + 1) * width, shape[0])).all()
        elbow = placement.points([bone.base for bone in hand.bones if bone.name == "radius"])[0]
        assert not (0 <= elbow[0] < shape[1] and 0 <= elbow[1] < shape[0])
        assert placement.mirrored == (hand.side == "R")


def test_both_hands_of_a_person_have_one_scale() -> None:
    left, right = place_hands(hands("LR", 1), (400, 512), np.random.default_rng(0))
    assert left.scale == right.scale


@pytest.mark.parametrize("seed", range(6))
def test_hands_brought_together_lie_over_each_other_a_little(seed: int) -> None:
    rng = np.random.default_rng(seed)
    both, shape = hands("LR", seed), (400, 512)
    apart = place_hands(both, shape, rng)
    together = bring_together(both, apart, shape, rng)
    left, right = (tissue_mask(hand, placement, shape) for hand, placement in zip(both, together, strict=True))
    overlap = (left & right).sum(axis=1).max()
    assert 1 <= overlap <= 0.16 * apart[0].scale + 2
    moves = [after.offset[0] - before.offset[0] for before, after in zip(apart, together, strict=True)]
    assert moves[0] == pytest.approx(-moves[1])
    assert [placement.offset[1] for placement in together] == [placement.offset[1] for placement in apart]


def test_a_marker_lies_beside_the_hand_and_inside_its_box() -> None:
    hands = np.zeros((512, 400), np.bool_)
    hands[:, 150:] = True
    for seed in range(10):
        marker = place_marker(hands, "L", np.random.default_rng(seed))
        if marker is None:
            continue
        x0, y0, x1, y1 = marker.box
        lead = marker.attenuation > 0
        assert not (lead & hands).any()
        assert lead[y0:y1, x0:x1].sum() == lead.sum() > 0
        assert lead[y0].any()
        assert lead[:, x1 - 1].any()
        assert marker.attenuation.max() > 3
    assert place_marker(hands, "L", np.random.default_rng(0)) is not None


def test_no_room_gives_no_marker() -> None:
    assert place_marker(np.ones((512, 400), np.bool_), "R", np.random.default_rng(0)) is None
    assert place_marker(np.zeros((512, 20), np.bool_), "R", np.random.default_rng(0)) is None


@pytest.mark.parametrize("seed", range(8))
def test_the_whole_plate_stays_in_the_picture(seed: int) -> None:
    shape = (512, 380)
    corners = sample_carrier(shape, np.random.default_rng(seed)).corners(shape)
    assert (corners >= 0).all()
    assert (corners <= (379, 511)).all()
    assert abs(np.degrees(np.arctan2(*(corners[1] - corners[0])[::-1]))) > 1.9


def test_picture_mask_and_points_move_together() -> None:
    shape = (512, 380)
    carrier = sample_carrier(shape, np.random.default_rng(3))
    mask = np.zeros(shape, np.bool_)
    mask[200:221, 100:121] = True
    moved = carrier.mask(mask)
    rows, columns = np.nonzero(moved)
    assert (columns.mean(), rows.mean()) == pytest.approx(carrier.points(np.array([[110.0, 210.0]]))[0], abs=0.6)
    picture = carrier.picture(np.where(mask, 200, 50).astype(np.uint8))
    assert picture[moved].mean() > 190
    assert picture[0, 0] == carrier.surroundings


def test_a_boxed_marker_is_an_upright_rectangle_of_lead_and_gaps() -> None:
    free = np.zeros((300, 300), np.bool_)
    marker = place_marker(free, "R", np.random.default_rng(0), boxed=1.0)
    assert marker is not None
    x0, y0, x1, y1 = marker.box
    tile = marker.attenuation[y0:y1, x0:x1]
    assert 0.03 * 300 - 1 <= tile.shape[0] <= 0.08 * 300 + 1
    assert 0.2 < (tile > 2).mean() < 0.95
    assert min(edge.mean() for edge in (tile[0], tile[-1], tile[:, 0], tile[:, -1])) > 2  # its frame or square
