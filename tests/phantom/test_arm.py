from __future__ import annotations

import math

import numpy as np
import pytest

from anomalib_xray.phantom.anatomy import sample_anatomy
from anomalib_xray.phantom.arm import Arm, metal, place_arms, plaster, sample_arm, thickened
from anomalib_xray.phantom.attenuation import Placement, tissue_mask

SHAPE = (256, 210)


def drawn(seed: int, side: str = "L", leaving: float = 0.0) -> tuple[Arm, Placement, np.random.Generator]:
    rng = np.random.default_rng(seed)
    arm = sample_arm(sample_anatomy(rng), side, rng)
    (placement,) = place_arms([arm], SHAPE, leaving, rng)
    return arm, placement, rng


@pytest.mark.parametrize("seed", range(5))
def test_places_along_an_arm_are_those_of_its_chain(seed: int) -> None:
    arm, _, _ = drawn(seed)
    knuckles, wrist, elbow, shoulder = arm.chain
    assert arm.elbow == pytest.approx(math.dist(knuckles, wrist) + math.dist(wrist, elbow))
    places, across, half = arm.at(np.array([0.0, arm.elbow, arm.elbow + math.dist(elbow, shoulder)]))
    assert places == pytest.approx(np.array([knuckles, elbow, shoulder]))
    assert np.hypot(*across.T) == pytest.approx(1)
    assert half == pytest.approx([arm.radii[0], arm.radii[2], arm.radii[3]])


def test_arms_are_frontal_and_lateral_straight_and_bent() -> None:
    arms = [drawn(seed)[0] for seed in range(40)]
    breadths = [np.ptp(arm.hand.palm[:, 0]) for arm in arms]
    assert min(breadths) < 0.4 * max(breadths)
    turns = []
    for arm in arms:
        fore, upper = np.diff(arm.chain, axis=0)[1:]
        turns.append(math.degrees(math.acos(fore @ upper / np.hypot(*fore) / np.hypot(*upper))))
    assert min(turns) < 10
    assert max(turns) > 90
    assert {bone.name for bone in arms[0].hand.bones} >= {"radius", "ulna", "humerus", "distal_1"}


@pytest.mark.parametrize(
    ("leaving", "border"), [(0.0, np.s_[0]), (90.0, np.s_[:, -1]), (180.0, np.s_[-1]), (270.0, np.s_[:, 0])]
)
@pytest.mark.parametrize("side", ["L", "R"])
def test_an_arm_leaves_at_the_border_that_was_asked_for(leaving: float, border: object, side: str) -> None:
    left = []
    for seed in range(8):
        arm, placement, _ = drawn(seed, side, leaving)
        left.append(tissue_mask(arm.hand, placement, SHAPE)[border].any())
    assert np.mean(left) > 0.8  # a slanted one may leave at the corner beside it


def test_two_arms_lie_side_by_side() -> None:
    rng = np.random.default_rng(0)
    person = sample_anatomy(rng)
    arms = [sample_arm(person, side, rng) for side in "LR"]
    first, second = place_arms(arms, (256, 400), 0.0, rng)
    assert first.offset[0] < second.offset[0]
    assert (first.mirrored, second.mirrored) == (False, True)


@pytest.mark.parametrize("seed", range(4))
def test_plaster_is_wider_than_the_limb_and_absorbs_where_it_is(seed: int) -> None:
    arm, placement, rng = drawn(seed)
    attenuation, mask = plaster(arm, placement, SHAPE, rng)
    limb = tissue_mask(arm.hand, placement, SHAPE)
    assert (mask & ~limb).sum() > 50
    assert (mask & limb).sum() > 500
    assert attenuation.min() >= 0
    assert not attenuation[~mask].any()
    assert attenuation[mask].mean() > 0.05


@pytest.mark.parametrize("seed", range(12))
def test_metal_is_denser_than_bone(seed: int) -> None:
    arm, placement, rng = drawn(seed)
    attenuation, mask = metal(arm, placement, SHAPE, rng)
    assert attenuation.max() <= 5
    assert not mask.any() or attenuation[mask].min() > 2


def test_flesh_thickens_towards_the_upper_arm() -> None:
    arm, placement, _ = drawn(3)
    field = thickened(np.zeros(SHAPE, np.float32), arm, placement, np.random.default_rng(1))
    assert field.shape == SHAPE
    assert field.min() > -1
