from __future__ import annotations

import numpy as np
import pytest

from anomalib_xray.phantom.anatomy import build_hand, sample_anatomy, sample_pose
from anomalib_xray.phantom.attenuation import tissue_mask
from anomalib_xray.phantom.hand import Hand
from anomalib_xray.phantom.layout import bring_together, place_hands


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
