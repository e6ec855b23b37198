"""Hands with a bone fewer or a digit more."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from anomalib_xray.phantom.hand import Bone, Hand, SoftSegment, step
from anomalib_xray.phantom.template import DISTAL, JOINT_GAP, PROXIMAL


def phalanges(hand: Hand) -> tuple[str, ...]:
    """Names of the hand's phalanges."""
    return tuple(bone.name for bone in hand.bones if bone.name.split("_")[0] in {"proximal", "middle", "distal"})


def without_bone(hand: Hand, name: str) -> Hand:
    """The hand with one bone missing; its soft tissue stays."""
    return dataclasses.replace(hand, bones=tuple(bone for bone in hand.bones if bone.name != name))


def with_extra_digit(hand: Hand, rng: np.random.Generator) -> Hand:
    """The hand with a small supernumerary digit beside the thumb or the little finger (polydactyly)."""
    number, outward = (1, 1) if rng.random() < 0.5 else (5, -1)
    parent = next(bone for bone in hand.bones if bone.name == f"proximal_{number}")
    along = np.subtract(parent.head, parent.base)
    degrees = math.degrees(math.atan2(along[0], -along[1]))
    start = step((parent.base[0], parent.base[1]), degrees + outward * 90, parent.widths[0] * 0.85)
    start = step(start, degrees, parent.length * 0.1)
    size = float(rng.uniform(0.62, 0.8))
    turn = degrees + outward * float(rng.uniform(32, 50))
    bones: list[Bone] = []
    tissue: list[SoftSegment] = []
    for name, length, widths, radii in (
        ("extra_proximal", 0.5, PROXIMAL, (0.17, 0.14)),
        ("extra_distal", 0.34, DISTAL, (0.14, 0.115)),
    ):
        end = step(start, turn, length * size)
        base_width, shaft_width, head_width = (width * size for width in widths)
        bones.append(
            Bone(name, start, end, (base_width, shaft_width, head_width), shaft_width * 0.2, roundness=(0.25, 0.35))
        )
        after = step(end, turn, JOINT_GAP)
        tissue.append(SoftSegment(start, after, (radii[0] * size, radii[1] * size)))
        start = after
        turn -= outward * 12
    return dataclasses.replace(hand, bones=(*hand.bones, *bones), tissue=(*hand.tissue, *tissue))
