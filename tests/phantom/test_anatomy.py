from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np

from anomalib_xray.phantom.anatomy import (
    Anatomy,
    Pose,
    build_hand,
    phalanges,
    sample_anatomy,
    sample_pose,
    with_extra_digit,
    without_bone,
)
from anomalib_xray.phantom.hand import Hand

PERSON = Anatomy(1.0, 1.0, 1.0, (1.0,) * 5, np.ones((5, 4)))
POSE = Pose(spread=1.0, thumb=0.0, joint_turns=np.zeros((5, 4)), wrist=0.0)


def ordinary_hand() -> Hand:
    return build_hand(PERSON, POSE, "L")


def test_a_hand_has_the_bones_of_a_hand() -> None:
    hand = ordinary_hand()
    kinds = Counter(bone.name.split("_")[0] for bone in hand.bones)
    assert kinds == {"metacarpal": 5, "proximal": 5, "middle": 4, "distal": 5, "radius": 1, "ulna": 1}
    wrist = {carpal.name for carpal in hand.carpals} - {"sesamoid", "hook"}
    assert wrist == {
        "scaphoid",
        "lunate",
        "triquetrum",
        "pisiform",
        "trapezium",
        "trapezoid",
        "capitate",
        "hamate",
    }


def test_bones_of_a_finger_follow_each_other_with_a_joint_gap() -> None:
    bones = {bone.name: bone for bone in ordinary_hand().bones}
    for lower, upper in (("metacarpal_3", "proximal_3"), ("proximal_3", "middle_3"), ("middle_3", "distal_3")):
        gap = np.hypot(*np.subtract(bones[upper].base, bones[lower].head))
        assert 0.01 < gap < 0.05
        assert bones[upper].head[1] < bones[lower].head[1]


def test_the_third_metacarpal_is_the_unit_at_the_origin() -> None:
    bone = next(bone for bone in ordinary_hand().bones if bone.name == "metacarpal_3")
    assert bone.base == (0.0, 0.0)
    assert bone.length == 1


def test_only_children_have_growth_plates_and_small_carpals() -> None:
    child = build_hand(dataclasses.replace(PERSON, maturity=0.5), POSE, "L")
    adult = ordinary_hand()
    assert all(bone.growth_plate is None for bone in adult.bones)
    assert all(bone.growth_plate is not None for bone in child.bones)
    assert np.ptp(child.carpals[0].outline, axis=0).max() < 0.8 * np.ptp(adult.carpals[0].outline, axis=0).max()


def test_people_and_poses_vary() -> None:
    people = [sample_anatomy(np.random.default_rng(seed)) for seed in range(40)]
    assert {person.maturity < 1 for person in people} == {True, False}
    assert len({sample_pose(np.random.default_rng(seed)).spread for seed in range(5)}) == 5


def test_a_missing_bone_leaves_everything_else() -> None:
    hand = ordinary_hand()
    changed = without_bone(hand, "middle_4")
    assert {bone.name for bone in hand.bones} - {bone.name for bone in changed.bones} == {"middle_4"}
    assert changed.tissue == hand.tissue


def test_an_extra_digit_adds_bones_and_tissue_beside_the_hand() -> None:
    hand = ordinary_hand()
    for seed in range(4):
        changed = with_extra_digit(hand, np.random.default_rng(seed))
        assert len(changed.bones) == len(hand.bones) + 2
        assert len(changed.tissue) == len(hand.tissue) + 2
        xs = [bone.head[0] for bone in changed.bones[-2:]]
        assert min(xs) > 0.5 or max(xs) < -0.5


def test_phalanges_are_fourteen() -> None:
    assert len(phalanges(ordinary_hand())) == 14
