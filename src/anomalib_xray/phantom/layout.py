"""Where the hands lie on the picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.phantom.attenuation import Placement, tissue_mask
from anomalib_xray.phantom.hand import Hand

_SKIN = 0.16  # hand units between the axis of a finger and its outline
_CONTACT = (0.02, 0.16)  # hand units by which hands that touch lie over each other


@dataclasses.dataclass(frozen=True)
class _Lying:
    """A turned hand and the box around what of it should be visible, hand units."""

    degrees: float
    mirrored: bool
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def place_hands(hands: Sequence[Hand], shape: tuple[int, int], rng: np.random.Generator) -> list[Placement]:
    """Lays one or two hands on a picture, all at the same scale; their forearms leave it.

    Args:
        hands: The hands, from left to right; each gets an equal share of the width.
        shape: Height and width of the picture.
        rng: Source of randomness.

    Returns:
        A placement for each hand.
    """
    share = np.array([shape[1] / len(hands), shape[0]])
    lying = [_lie(hand, _turn(shape, len(hands), rng), float(rng.uniform(0.75, 1.4))) for hand in hands]
    largest = min(float((share / (hand.high - hand.low)).min()) for hand in lying)
    scale = largest * float(rng.uniform(0.84, 0.99))
    return [
        _put(hand, scale, share, np.array([position * share[0], 0.0]), rng.uniform(0.15, 0.85, 2))
        for position, hand in enumerate(lying)
    ]


def bring_together(
    hands: Sequence[Hand], placements: Sequence[Placement], shape: tuple[int, int], rng: np.random.Generator
) -> list[Placement]:
    """Moves two hands sideways, by equal amounts, until their soft tissue touches.

    Args:
        hands: The left and the right hand.
        placements: Where they lie, from left to right.
        shape: Height and width of the picture.
        rng: Source of randomness.

    Returns:
        The new placements: the hands lie over each other by 0.02 to 0.16 hand units where they are closest.
    """
    left, right = (tissue_mask(hand, placement, shape) for hand, placement in zip(hands, placements, strict=True))
    rows = left.any(axis=1) & right.any(axis=1)
    ends = shape[1] - 1 - np.argmax(left[rows, ::-1], axis=1)
    starts = np.argmax(right[rows], axis=1)
    gap = float((starts - ends).min())
    move = (gap + float(rng.uniform(*_CONTACT)) * placements[0].scale) / 2
    return [
        dataclasses.replace(placement, offset=(placement.offset[0] + way, placement.offset[1]))
        for placement, way in zip(placements, (move, -move), strict=True)
    ]


def _turn(shape: tuple[int, int], count: int, rng: np.random.Generator) -> float:
    """Degrees: roughly upright, but on a lying picture a single hand mostly points sideways."""
    if count == 1 and shape[1] > shape[0] and rng.random() < 0.7:
        return float(rng.choice([-90, 90]) + rng.normal(0, 7))
    return float(rng.normal(0, 8 if count == 1 else 4))


def _lie(hand: Hand, degrees: float, forearm: float) -> _Lying:
    mirrored = hand.side == "R"
    reaches = [point for segment in hand.tissue[:-2] for point in (segment.start, segment.end)]
    points = Placement(1.0, degrees, (0.0, 0.0), mirrored).points([*reaches, (-0.15, forearm)])
    return _Lying(degrees, mirrored, points.min(axis=0) - _SKIN, points.max(axis=0) + _SKIN)


def _put(
    hand: _Lying, scale: float, share: NDArray[np.float64], corner: NDArray[np.float64], portion: NDArray[np.float64]
) -> Placement:
    """Shares the free space out at random, but leaves none where the forearm enters."""
    forearm = Placement(1.0, hand.degrees, (0.0, 0.0), hand.mirrored).points([(0.0, 1.0)])[0]
    portion = np.where(np.abs(forearm) > 0.8, (np.sign(forearm) + 1) / 2, portion)
    free = share - (hand.high - hand.low) * scale
    x, y = corner + free * portion - hand.low * scale
    return Placement(scale, hand.degrees, (float(x), float(y)), hand.mirrored)
