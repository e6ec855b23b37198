"""From a person and a pose to a hand: the template, people who vary it, poses, and hands with a bone more or fewer."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.phantom.hand import Bone, Carpal, Hand, SoftSegment, step

_FINGER_RADII = (0.24, 0.208, 0.16, 0.136, 0.116)
_METACARPAL = (0.225, 0.118, 0.23)
_PROXIMAL = (0.23, 0.126, 0.176)
_MIDDLE = (0.186, 0.104, 0.142)
_DISTAL = (0.152, 0.058, 0.108)
DIGIT_SIZES = (1.0, 1.0, 1.04, 0.93, 0.82)  # widths relative to the index finger
THUMB_BONES = ("metacarpal", "proximal", "distal")
FINGER_BONES = ("metacarpal", "proximal", "middle", "distal")
JOINT_GAP = 0.02
# Outlines in hundredths of a hand unit.
CARPALS: dict[str, tuple[tuple[float, float], ...]] = {
    "capitate": (
        *((-8, 1), (4, 1), (11, 6), (14, 19), (12, 30), (6, 39), (-2, 41), (-9, 37)),
        *((-10, 26), (-10, 15), (-13, 6)),
    ),
    "hamate": ((-37, 12), (-33, 4), (-21, 1), (-11, 3), (-7, 14), (-8, 25), (-11, 34), (-17, 34), (-25, 27), (-35, 20)),
    "hook": ((-27, 5), (-21, 3), (-18, 8), (-19, 15), (-24, 15), (-28, 10)),
    "trapezoid": ((11, 8), (18, 0), (27, 2), (31, 8), (29, 18), (22, 22), (14, 19)),
    "trapezium": ((28, 6), (38, 2), (46, 9), (52, 17), (47, 27), (39, 32), (29, 29), (24, 20), (26, 12)),
    "scaphoid": ((-2, 43), (7, 36), (16, 26), (25, 24), (31, 32), (28, 41), (18, 47), (9, 52), (1, 52), (-3, 48)),
    "lunate": ((-25, 45), (-16, 37), (-4, 40), (4, 45), (2, 52), (-9, 56), (-20, 56), (-26, 51)),
    "triquetrum": ((-40, 27), (-35, 19), (-25, 20), (-18, 30), (-16, 40), (-22, 46), (-31, 44), (-38, 36)),
    "pisiform": ((-36, 33), (-30, 29), (-24, 32), (-24, 41), (-29, 45), (-36, 41)),
}


@dataclasses.dataclass(frozen=True)
class Digit:
    """A digit of the template: the beginning of its metacarpal, then one value per bone."""

    origin: tuple[float, float]
    angles: tuple[float, ...]  # degrees from straight up towards the thumb; metacarpal first
    lengths: tuple[float, ...]
    widths: tuple[tuple[float, float, float], ...]
    radii: tuple[float, ...]  # soft tissue at the base, then after each bone


def _finger(origin: tuple[float, float], angles: tuple[float, ...], lengths: tuple[float, ...]) -> Digit:
    return Digit(origin, angles, lengths, (_METACARPAL, _PROXIMAL, _MIDDLE, _DISTAL), _FINGER_RADII)


DIGITS = (
    Digit(
        (0.51, 0.07),
        (35.0, 45.0, 53.0),
        (0.66, 0.47, 0.37),
        ((0.24, 0.148, 0.215), (0.222, 0.122, 0.175), (0.19, 0.076, 0.122)),
        (0.27, 0.215, 0.178, 0.142),
    ),
    _finger((0.235, 0.02), (8.0, 8.0, 8.0, 9.0), (0.98, 0.6, 0.34, 0.265)),
    _finger((0.0, 0.0), (0.0, 0.0, 0.0, 0.0), (1.0, 0.68, 0.43, 0.275)),
    _finger((-0.185, -0.01), (-7.0, -9.5, -10.0, -9.0), (0.84, 0.62, 0.4, 0.28)),
    _finger((-0.315, 0.07), (-18.0, -20.0, -19.0, -15.0), (0.75, 0.49, 0.275, 0.235)),
)


@dataclasses.dataclass(frozen=True)
class Anatomy:
    """The anatomy of a person, which stays the same in all exposures.

    Attributes:
        maturity: 1 for an adult; less for a child with open growth plates and small carpals (0.4 to 1).
        sturdiness: Factor on the widths of the bones.
        flesh: Factor on the soft tissue around them.
        digit_lengths: Factors on the lengths of the five digits.
        bone_lengths: Factors on the lengths of the single bones, (5, 4).
    """

    maturity: float
    sturdiness: float
    flesh: float
    digit_lengths: tuple[float, ...]
    bone_lengths: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Pose:
    """The pose of a hand on the plate.

    Attributes:
        spread: Factor on the angles between the fingers.
        thumb: Degrees by which the thumb is led away from its usual place.
        joint_turns: Degrees by which each bone of each digit is turned, (5, 4).
        wrist: Degrees between hand and forearm.
    """

    spread: float
    thumb: float
    joint_turns: NDArray[np.float64]
    wrist: float


def sample_anatomy(rng: np.random.Generator) -> Anatomy:
    """A person drawn at random; three in four are grown up."""
    grown = rng.random() < 0.75
    return Anatomy(
        maturity=1.0 if grown else float(rng.uniform(0.45, 0.95)),
        sturdiness=float(rng.uniform(0.88, 1.12)),
        flesh=float(rng.uniform(0.9, 1.1)),
        digit_lengths=tuple(rng.uniform(0.95, 1.05, 5).tolist()),
        bone_lengths=rng.uniform(0.96, 1.04, (5, 4)),
    )


def sample_pose(rng: np.random.Generator) -> Pose:
    """A position of the fingers drawn at random, from nearly closed to well spread."""
    return Pose(
        spread=float(rng.uniform(0.75, 1.75)),
        thumb=float(rng.uniform(-12, 14)),
        joint_turns=rng.normal(0, 1, (5, 4)) * (1.5, 2.5, 3.0, 3.5),
        wrist=float(rng.uniform(-9, 9)),
    )


def build_hand(anatomy: Anatomy, pose: Pose, side: str) -> Hand:
    """The skeleton and the soft tissue, in hand units, of a person in a pose; ``side`` is ``"L"`` or ``"R"``."""
    bones: list[Bone] = []
    tissue: list[SoftSegment] = []
    heads: list[tuple[float, float]] = []
    for number in range(1, 6):
        digit_bones, digit_tissue = _digit(number, anatomy, pose)
        bones += digit_bones
        tissue += digit_tissue
        heads.append(digit_bones[0].head)
    forearm_bones, forearm_tissue = _forearm(anatomy, pose)
    starts = [digit.origin for digit in DIGITS]
    palm = np.array([starts[0], heads[0], *heads[1:], starts[4], (-0.45, 0.5), (0.28, 0.5)])
    return Hand(
        bones=(*bones, *forearm_bones),
        carpals=(*(_carpal(name, anatomy.maturity) for name in CARPALS), *_sesamoids(bones[0], anatomy.maturity)),
        tissue=(*tissue, *forearm_tissue),
        palm=palm,
        side=side,
    )


def _digit(number: int, anatomy: Anatomy, pose: Pose) -> tuple[list[Bone], list[SoftSegment]]:
    digit = DIGITS[number - 1]
    size = DIGIT_SIZES[number - 1] * anatomy.sturdiness
    point = digit.origin
    bones: list[Bone] = []
    tissue: list[SoftSegment] = []
    for order, (name, angle) in enumerate(zip(THUMB_BONES if number == 1 else FINGER_BONES, digit.angles, strict=True)):
        if number == 1:
            angle += pose.thumb * (0.6, 1.0, 1.3)[order]
        elif order > 0:
            angle *= pose.spread
        angle += pose.joint_turns[number - 1, order]
        length = digit.lengths[order] * anatomy.digit_lengths[number - 1] * anatomy.bone_lengths[number - 1, order]
        end = step(point, angle, length)
        metacarpal, distal = order == 0, name == "distal"
        base_width, shaft_width, head_width = (width * size for width in digit.widths[order])
        plate_end = 0.89 if metacarpal and number != 1 else 0.11
        bones.append(
            Bone(
                name=f"{name}_{number}",
                base=point,
                head=end,
                widths=(base_width, shaft_width, head_width),
                cortex=shaft_width * (0.25 if not distal else 0.2),
                bend=0.012 * (1 if number < 4 else -1) * (metacarpal or name == "proximal"),
                roundness=(0.2, 0.6 if metacarpal else 0.5 if distal else 0.26),
                hollows=(0.0 if metacarpal else 0.022, 0.0 if metacarpal or distal else 0.022),
                growth_plate=plate_end if anatomy.maturity < 1 else None,
            )
        )
        after = step(end, angle, JOINT_GAP)
        tip = step(end, angle, 0.035) if distal else after
        radii = digit.radii[order] * size * anatomy.flesh, digit.radii[order + 1] * size * anatomy.flesh
        tissue.append(SoftSegment(point, tip, radii))
        point = after
    return bones, tissue


def _forearm(anatomy: Anatomy, pose: Pose) -> tuple[list[Bone], list[SoftSegment]]:
    size = anatomy.sturdiness
    down = 180 + pose.wrist
    child = anatomy.maturity < 1
    radius_end, ulna_end = (0.02, 0.535), (-0.37, 0.575)
    radius = Bone(
        "radius",
        base=step(radius_end, down + 3, 3.0),
        head=radius_end,
        widths=(0.3 * size, 0.27 * size, 0.46 * size),
        cortex=0.055 * size,
        roundness=(0.2, 0.2),
        growth_plate=0.968 if child else None,
    )
    ulna = Bone(
        "ulna",
        base=step(ulna_end, down - 1, 3.0),
        head=ulna_end,
        widths=(0.22 * size, 0.18 * size, 0.245 * size),
        cortex=0.05 * size,
        roundness=(0.2, 0.35),
        growth_plate=0.972 if child else None,
    )
    flesh = anatomy.flesh * size
    tissue = [
        SoftSegment((0.47, 0.05), (0.1, 0.62), (0.24 * flesh, 0.3 * flesh)),
        SoftSegment((-0.36, 0.0), (-0.3, 0.5), (0.25 * flesh, 0.25 * flesh)),
        SoftSegment((0.06, 0.3), step((0.06, 0.6), down, 0.4), (0.33 * flesh, 0.3 * flesh)),
        SoftSegment((-0.28, 0.3), step((-0.26, 0.6), down, 0.4), (0.28 * flesh, 0.29 * flesh)),
        SoftSegment(step((0.06, 0.6), down, 0.4), step((0.06, 0.6), down + 2, 3.0), (0.3 * flesh, 0.46 * flesh)),
        SoftSegment(step((-0.26, 0.6), down, 0.4), step((-0.26, 0.6), down - 2, 3.0), (0.29 * flesh, 0.46 * flesh)),
    ]
    return [radius, ulna], tissue


def _carpal(name: str, maturity: float) -> Carpal:
    outline = np.array(CARPALS[name]) / 100
    centre = outline.mean(axis=0)
    return Carpal(name, centre + (outline - centre) * (0.5 + 0.5 * maturity))


def _sesamoids(first_metacarpal: Bone, maturity: float) -> list[Carpal]:
    """The two small round bones at the head of the first metacarpal; a child has none yet."""
    if maturity < 1:
        return []
    along = np.subtract(first_metacarpal.head, first_metacarpal.base) / first_metacarpal.length
    across = np.array([-along[1], along[0]])
    turns = np.linspace(0, 2 * np.pi, 8, endpoint=False)
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=1) * 0.036
    places = ((-0.07, -0.075), (-0.05, 0.05))
    return [
        Carpal("sesamoid", circle + first_metacarpal.head + forth * along + aside * across) for forth, aside in places
    ]


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
        ("extra_proximal", 0.5, _PROXIMAL, (0.17, 0.14)),
        ("extra_distal", 0.34, _DISTAL, (0.14, 0.115)),
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
