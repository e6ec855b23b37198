"""The plate of a phantom: hands and lead markers on it, and the tilted image carrier that it may be."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.phantom.attenuation import Mask, Placement, Plane, tissue_mask
from anomalib_xray.phantom.hand import Hand

Box = tuple[int, int, int, int]
"""Corners x0, y0, x1, y1 in pixels, the second one outside."""

_SKIN = 0.16  # hand units between the axis of a finger and its outline
_LEAD = 4.0  # attenuation of a lead letter
_CONTACT = (0.02, 0.16)  # hand units by which hands that touch lie over each other


@dataclasses.dataclass(frozen=True)
class _Lying:
    """A turned hand and the box around its part that should be visible, hand units."""

    degrees: float
    mirrored: bool
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def place_hands(hands: Sequence[Hand], shape: tuple[int, int], rng: np.random.Generator) -> list[Placement]:
    """Lay one or two hands on a picture, from left to right, at the same scale; their forearms leave it."""
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
    """Move a left and a right hand sideways, by equal amounts, until their soft tissue overlaps a little."""
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
    """Share the free space out at random, but leave none where the forearm enters."""
    forearm = Placement(1.0, hand.degrees, (0.0, 0.0), hand.mirrored).points([(0.0, 1.0)])[0]
    portion = np.where(np.abs(forearm) > 0.8, (np.sign(forearm) + 1) / 2, portion)
    free = share - (hand.high - hand.low) * scale
    x, y = corner + free * portion - hand.low * scale
    return Placement(scale, hand.degrees, (float(x), float(y)), hand.mirrored)


@dataclasses.dataclass(frozen=True)
class Marker:
    """A lead marker: its attenuation (H, W) and its box."""

    attenuation: Plane
    box: Box


def place_marker(
    hands: Mask, side: str, rng: np.random.Generator, *, tries: int = 60, boxed: float = 0.0
) -> Marker | None:
    """A marker at a random free place of the plate; None if the hands (H, W) leave no room for it.

    ``boxed`` is the probability that it is an upright letter in a box.
    """
    longest = max(hands.shape)
    if boxed and rng.random() < boxed:
        tile = _boxed_tile(side, round(longest * rng.uniform(0.03, 0.08)), rng)
    else:
        tag = _tile(side, round(longest * rng.uniform(0.09, 0.15)), rng)
        tile = _turned(tag, float(rng.choice([0, 0, 0, 90]) + rng.normal(0, 14)))
    height, width = tile.shape
    free_rows, free_columns = hands.shape[0] - height, hands.shape[1] - width
    if free_rows <= 0 or free_columns <= 0:
        return None
    sums = cv2.integral(hands.astype(np.uint8))
    for _ in range(tries):
        y, x = int(rng.integers(free_rows)), int(rng.integers(free_columns))
        if sums[y + height, x + width] - sums[y, x + width] - sums[y + height, x] + sums[y, x] == 0:
            plane = np.zeros(hands.shape, np.float32)
            plane[y : y + height, x : x + width] = tile
            return Marker(plane, box_of(plane > 0))
    return None


def box_of(mask: Mask) -> Box:
    """The bounding box of a mask (H, W)."""
    x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return x, y, x + width, y + height


def _tile(side: str, height: int, rng: np.random.Generator) -> Plane:
    """A plastic tag with a large letter and small initials under it, at four times the size."""
    size = height * 4
    width = round(size * rng.uniform(0.6, 0.8))
    lead = np.zeros((size, width), np.uint8)
    plastic = float(rng.choice([0.0, 0.04, 0.1]))
    letters = "".join(rng.choice(list(string.ascii_uppercase), int(rng.integers(2, 4)))) if rng.random() < 0.7 else ""
    for text, share, middle in ((side, 0.42 if letters else 0.7, 0.32 if letters else 0.5), (letters, 0.24, 0.76)):
        if text:
            _write(lead, text, share * size, middle * size)
    return np.asarray(plastic + _LEAD * lead.astype(np.float32) / 255, np.float32)


def _boxed_tile(side: str, height: int, rng: np.random.Generator) -> Plane:
    """A dark letter on a bright square, or a bright one in a bright frame."""
    size = height * 4
    letter = np.zeros((size, round(size * rng.uniform(0.8, 1.1))), np.uint8)
    _write(letter, side, 0.6 * size, 0.5 * size)
    lead = letter.astype(np.float32) / 255
    if rng.random() < 0.5:
        lead = 1 - lead
    else:
        edge = round(size * rng.uniform(0.06, 0.14))
        frame = np.ones_like(lead)
        frame[edge:-edge, edge:-edge] = 0
        lead = np.maximum(lead, frame)
    return np.asarray(_LEAD * cv2.resize(lead, (lead.shape[1] // 4, height), interpolation=cv2.INTER_AREA), np.float32)


def _write(tag: NDArray[np.uint8], text: str, height: float, middle: float) -> None:
    thickness = max(2, round(height * 0.16))
    scale = cv2.getFontScaleFromHeight(cv2.FONT_HERSHEY_SIMPLEX, round(height), thickness)
    (width, tall), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    shrink = min(1.0, 0.88 * tag.shape[1] / width)
    origin = (round((tag.shape[1] - width * shrink) / 2), round(middle + tall * shrink / 2))
    cv2.putText(
        tag, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale * shrink, 255, max(2, round(thickness * shrink)), cv2.LINE_AA
    )


def _turned(tag: Plane, degrees: float) -> Plane:
    """The tag turned and brought to its final size, on a tile that just holds it."""
    height, width = tag.shape
    corners = cv2.boxPoints(((width / 2, height / 2), (width, height), degrees))
    spread = np.ptp(corners, axis=0)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), -degrees, 1)
    target = np.ceil(spread / 4).astype(int) * 4 + 8
    matrix[:, 2] += target / 2 - (width / 2, height / 2)
    turned = cv2.warpAffine(tag, matrix, target.tolist(), flags=cv2.INTER_LINEAR)
    return np.asarray(cv2.resize(turned, (target // 4).tolist(), interpolation=cv2.INTER_AREA), np.float32)


@dataclasses.dataclass(frozen=True)
class Carrier:
    """A turned and shrunk plate.

    Attributes:
        matrix: Affine map (2, 3) from plate pixels to picture pixels.
        surroundings: Grey level around the plate.
        edge: Grey level of the plate's edge line; None without one.
    """

    matrix: NDArray[np.float64]
    surroundings: int
    edge: int | None

    def corners(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """The plate's corners (4, 2) on the picture, clockwise from its top left one."""
        height, width = shape[:2]
        return self.points(np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], float))

    def points(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Plate points (K, 2) on the picture."""
        moved: NDArray[np.float64] = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        return moved

    def picture(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The plate's picture (H, W) on its surroundings."""
        height, width = image.shape
        moved = cv2.warpAffine(
            image,
            self.matrix,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=self.surroundings,
        )
        if self.edge is not None:
            outline = np.round(self.corners(image.shape) * 16).astype(np.int32)
            cv2.polylines(moved, [outline], True, self.edge, 1, cv2.LINE_AA, 4)
        return np.asarray(moved, np.uint8)

    def mask(self, mask: Mask) -> Mask:
        """A plate mask (H, W) on the picture."""
        height, width = mask.shape
        return np.asarray(
            cv2.warpAffine(mask.astype(np.uint8), self.matrix, (width, height), flags=cv2.INTER_NEAREST) > 0
        )


def sample_carrier(shape: tuple[int, int], rng: np.random.Generator) -> Carrier:
    """A carrier drawn at random for a picture of shape (H, W): turned by up to 14 degrees, whole inside the picture."""
    height, width = shape
    degrees = float(rng.uniform(2, 14) * rng.choice([-1, 1]))
    sine, cosine = abs(np.sin(np.deg2rad(degrees))), np.cos(np.deg2rad(degrees))
    largest = min(width / (width * cosine + height * sine), height / (height * cosine + width * sine))
    matrix = cv2.getRotationMatrix2D(
        ((width - 1) / 2, (height - 1) / 2), degrees, largest * float(rng.uniform(0.9, 0.99))
    )
    return Carrier(
        matrix=np.asarray(matrix, np.float64),
        surroundings=int(rng.integers(0, 4)),
        edge=int(rng.integers(90, 240)) if rng.random() < 0.5 else None,
    )
