"""The parts of a hand: long bones, short bones and soft tissue, in hand units.

Hand units: the third metacarpal has length 1 and its base is the origin, x points to the thumb, y to the forearm.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""Points of shape (K, 2), x before y."""


@dataclasses.dataclass(frozen=True)
class Bone:
    """A long bone: a slightly bent tube with a wider base and head; lengths are in hand units.

    Attributes:
        name: Such as ``"proximal_2"`` (the digits count from the thumb, 1, to the little finger, 5).
        base: End near the body.
        head: End away from the body.
        widths: Full widths of base, shaft and head.
        cortex: Thickness of the cortex in the middle of the shaft.
        bend: Sideways bow of the shaft, as a share of the length.
        roundness: Reach of the caps of base and head into the bone, as shares of the width there.
        growth_plate: Position of an open growth plate from 0 (base) to 1 (head); None in an adult.
        hollows: Depth of the joint faces of base and head in their middle.
    """

    name: str
    base: tuple[float, float]
    head: tuple[float, float]
    widths: tuple[float, float, float]
    cortex: float
    bend: float = 0.0
    roundness: tuple[float, float] = (0.25, 0.4)
    growth_plate: float | None = None
    hollows: tuple[float, float] = (0.0, 0.0)

    @property
    def length(self) -> float:
        """Distance from base to head, hand units."""
        return math.dist(self.base, self.head)


@dataclasses.dataclass(frozen=True)
class Carpal:
    """A short bone of the wrist, given by its closed outline (K, 2) in hand units."""

    name: str
    outline: Points


@dataclasses.dataclass(frozen=True)
class SoftSegment:
    """Soft tissue around the line from ``start`` to ``end``: a capsule with a radius at each end, hand units."""

    start: tuple[float, float]
    end: tuple[float, float]
    radii: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Hand:
    """One posed hand.

    Attributes:
        bones: Long bones.
        carpals: Bones of the wrist.
        tissue: Capsules whose smooth union, with the palm, is the soft tissue.
        palm: Outline of the palm (K, 2), hand units.
        side: ``"L"`` or ``"R"``. The coordinates are the same for both; a right hand is mirrored when placed.
    """

    bones: tuple[Bone, ...]
    carpals: tuple[Carpal, ...]
    tissue: tuple[SoftSegment, ...]
    palm: Points
    side: str


def step(point: tuple[float, float], degrees: float, length: float) -> tuple[float, float]:
    """The point at ``length`` in the direction ``degrees``, counted from straight up towards the thumb."""
    radians = math.radians(degrees)
    return point[0] + length * math.sin(radians), point[1] - length * math.cos(radians)
