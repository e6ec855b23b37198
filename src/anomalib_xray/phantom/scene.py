"""One picture with its ground truth: hands on a plate, exposed, and the other things that a real film shows."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.phantom.anatomy import (
    Anatomy,
    build_hand,
    phalanges,
    sample_anatomy,
    sample_pose,
    with_extra_digit,
    without_bone,
)
from anomalib_xray.phantom.anomalies import ANOMALY_KINDS, PAINTED_KINDS, Image, changed_region, paint_anomaly
from anomalib_xray.phantom.attenuation import (
    Film,
    Mask,
    Placement,
    Plane,
    bone_attenuation,
    bone_texture,
    expose,
    sample_film,
    tissue_attenuation,
    tissue_mask,
)
from anomalib_xray.phantom.hand import Hand
from anomalib_xray.phantom.plate import (
    Box,
    Carrier,
    Marker,
    box_of,
    bring_together,
    place_hands,
    place_marker,
    sample_carrier,
)

LONGEST_SIDE = 512
_LEAST_CHANGE = 150  # pixels of a bone more or fewer, so that it can be seen


@dataclasses.dataclass(frozen=True)
class SceneOptions:
    """The things that a picture may show beside one hand; the numbers are probabilities.

    Attributes:
        prepared: Background exactly 0 and foreground at least 1, as after a perfect preparation.
        landscape: Lying instead of upright pictures.
        carrier: A tilted image carrier on black surroundings.
        marker: A lead marker with the side and initials.
        second_hand: Both hands of the person in one picture.
        touching: That these touch each other.
        inverted: Bones dark on bright ground.
    """

    prepared: bool = True
    landscape: float = 0.1
    carrier: float = 0.0
    marker: float = 0.0
    second_hand: float = 0.0
    touching: float = 0.0
    inverted: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise XrayError(f"The scene option {field.name} is a probability from 0 to 1, not {value}.")
        if self.prepared and (self.carrier or self.marker or self.second_hand or self.inverted):
            raise XrayError(
                "A prepared scene shows one hand alone: set prepared=False for carriers, markers or inversion."
            )


PREPARED = SceneOptions()
"""One hand, background 0."""
RAW = SceneOptions(prepared=False, landscape=0.15, carrier=0.25, marker=0.8, second_hand=0.1, inverted=0.1)
"""Roughly the mixture of an unprepared archive."""


@dataclasses.dataclass(frozen=True)
class Phantom:
    """A picture and its ground truth.

    Attributes:
        image: Grey levels (H, W), 8 bit; the longest side is 512.
        foreground: Mask of the hands, (H, W).
        anomaly: Mask of the anomaly, (H, W); None without one.
        kind: The anomaly's kind; None without one.
        sides: ``"L"`` or ``"R"`` for each hand.
        hand_boxes: Box x0, y0, x1, y1 of each hand's foreground, pixels, the second corner outside.
        marker_boxes: The same of each marker.
        carrier_corners: The carrier's corners (x, y), clockwise from its top left one; None without a carrier.
        inverted: Whether bones are dark.
    """

    image: Image
    foreground: Mask
    anomaly: Mask | None
    kind: str | None
    sides: tuple[str, ...]
    hand_boxes: tuple[Box, ...]
    marker_boxes: tuple[Box, ...]
    carrier_corners: tuple[tuple[float, float], ...] | None
    inverted: bool


@dataclasses.dataclass(frozen=True)
class _Plate:
    """The settings of a plate, which draw the same picture again for a changed skeleton."""

    shape: tuple[int, int]
    texture: Plane
    unevenness: Plane
    film: Film
    noise: int

    def hand(self, hand: Hand, placement: Placement) -> tuple[Plane, Mask]:
        mask = tissue_mask(hand, placement, self.shape)
        tissue = tissue_attenuation(mask, placement, self.unevenness)
        return tissue + bone_attenuation(hand, placement, self.shape, self.texture), mask

    def expose(self, attenuation: Plane, foreground: Mask, *, prepared: bool) -> Image:
        image = expose(attenuation, self.film, np.random.default_rng(self.noise))
        return np.where(foreground, np.maximum(image, 1), 0).astype(np.uint8) if prepared else image


def render_phantom(
    rng: np.random.Generator,
    options: SceneOptions = PREPARED,
    *,
    kind: str | None = None,
    anatomy: Anatomy | None = None,
    side: str | None = None,
) -> Phantom:
    """Draw one radiograph of a hand.

    Args:
        rng: Source of randomness; the same state gives the same picture.
        options: Things that the picture may show.
        kind: Its anomaly, one of :data:`anomalib_xray.phantom.ANOMALY_KINDS`; None for a healthy hand.
        anatomy: The person; drawn at random if None.
        side: ``"L"`` or ``"R"``; drawn at random if None; without effect if both hands are shown.

    Raises:
        XrayError: If the kind is unknown or the anomaly finds no place in the picture.

    Example:
        >>> phantom = render_phantom(np.random.default_rng(0), side="L")
        >>> max(phantom.image.shape), phantom.sides
        (512, ('L',))
    """
    if kind is not None and kind not in ANOMALY_KINDS:
        raise XrayError(f"Unknown kind of anomaly {kind!r}: choose one of {', '.join(ANOMALY_KINDS)}.")
    person = anatomy or sample_anatomy(rng)
    alone = side or str(rng.choice(["L", "R"]))
    sides = ("L", "R") if rng.random() < options.second_hand else (alone,)
    shape = _sample_shape(rng, lying=len(sides) == 2 or rng.random() < options.landscape)
    hands = [build_hand(person, sample_pose(rng), each) for each in sides]
    placements = place_hands(hands, shape, rng)
    # No number is drawn unless asked for, so that the other options give the same pictures as without this one.
    if len(hands) == 2 and options.touching and rng.random() < options.touching:
        placements = bring_together(hands, placements, shape, rng)
    plate = _Plate(
        shape=shape,
        texture=bone_texture(rng),
        unevenness=_unevenness(shape, rng),
        film=sample_film(rng, prepared=options.prepared),
        noise=int(rng.integers(2**32)),
    )
    image, masks, markers, anomaly = _exposed(plate, hands, placements, options, kind, rng)
    foreground = np.logical_or.reduce(masks)
    if kind in PAINTED_KINDS:
        image, anomaly = paint_anomaly(image, foreground, kind, rng)
    carrier = sample_carrier(shape, rng) if rng.random() < options.carrier else None
    inverted = bool(rng.random() < options.inverted)
    marker_boxes = tuple(marker.box for marker in markers)
    if carrier is not None:
        image, masks = carrier.picture(image), [carrier.mask(mask) for mask in masks]
        anomaly = None if anomaly is None else carrier.mask(anomaly)
        marker_boxes = tuple(_moved_box(box, carrier, shape) for box in marker_boxes)
    return Phantom(
        image=255 - image if inverted else image,
        foreground=np.logical_or.reduce(masks),
        anomaly=anomaly,
        kind=kind,
        sides=sides,
        hand_boxes=tuple(box_of(mask) for mask in masks),
        marker_boxes=marker_boxes,
        carrier_corners=None
        if carrier is None
        else tuple((float(x), float(y)) for x, y in carrier.corners(shape).round(2)),
        inverted=inverted,
    )


def _exposed(
    plate: _Plate,
    hands: list[Hand],
    placements: list[Placement],
    options: SceneOptions,
    kind: str | None,
    rng: np.random.Generator,
) -> tuple[Image, list[Mask], list[Marker], Mask | None]:
    """The plate's picture, the mask of each hand, the markers, and the mask of a changed skeleton."""
    healthy = [plate.hand(hand, placement) for hand, placement in zip(hands, placements, strict=True)]
    drawn = healthy
    if kind is not None and kind not in PAINTED_KINDS:
        changed = _changed_skeleton(hands[0], placements[0], plate.shape, kind, rng)
        drawn = [plate.hand(changed, placements[0]), *healthy[1:]]
    masks = [mask for _, mask in drawn]
    foreground = np.logical_or.reduce(masks)
    found = [
        place_marker(foreground | _beside(plate.shape, position, len(hands)), hand.side, rng)
        for position, hand in enumerate(hands)
        if rng.random() < options.marker
    ]
    markers = [marker for marker in found if marker is not None]
    lead = [marker.attenuation for marker in markers]
    image = plate.expose(_total(drawn, lead), foreground, prepared=options.prepared)
    if drawn is healthy:
        return image, masks, markers, None
    before = plate.expose(
        _total(healthy, lead), np.logical_or.reduce([mask for _, mask in healthy]), prepared=options.prepared
    )
    changed_pixels = changed_region(before, image) & foreground
    if changed_pixels.sum() < _LEAST_CHANGE:
        raise XrayError(f"The anomaly {kind!r} lies outside this picture: draw it with another random state.")
    return image, masks, markers, changed_pixels


def _beside(shape: tuple[int, int], position: int, count: int) -> Mask:
    """Everything (H, W) but the share of the picture that belongs to one hand."""
    beside = np.ones(shape, np.bool_)
    beside[:, position * shape[1] // count : (position + 1) * shape[1] // count] = False
    return beside


def _total(hands: list[tuple[Plane, Mask]], lead: list[Plane]) -> Plane:
    """The attenuation (H, W) of everything on the plate: on film it adds up."""
    return np.asarray(np.sum([*(attenuation for attenuation, _ in hands), *lead], axis=0), np.float32)


def _changed_skeleton(
    hand: Hand, placement: Placement, shape: tuple[int, int], kind: str, rng: np.random.Generator
) -> Hand:
    """The hand with a phalanx more or fewer, at a place that the picture shows."""
    if kind == "extra_phalanx":
        return with_extra_digit(hand, rng)
    height, width = shape
    visible = []
    for bone in hand.bones:
        middle = placement.points([np.add(bone.base, bone.head) / 2])[0]
        if bone.name in phalanges(hand) and 0 < middle[0] < width and 0 < middle[1] < height:
            visible.append(bone.name)
    return without_bone(hand, str(rng.choice(visible)))


def _sample_shape(rng: np.random.Generator, *, lying: bool) -> tuple[int, int]:
    short = int(rng.integers(350, 451))
    return (short, LONGEST_SIDE) if lying else (LONGEST_SIDE, short)


def _unevenness(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    coarse = cv2.GaussianBlur(rng.standard_normal((16, 16), dtype=np.float32), (0, 0), 1.1)
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC) * np.float32(0.16), np.float32)


def _moved_box(box: Box, carrier: Carrier, shape: tuple[int, int]) -> Box:
    x0, y0, x1, y1 = box
    points: NDArray[np.float64] = carrier.points(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float))
    low, high = points.min(axis=0), points.max(axis=0)
    return (
        max(math.floor(low[0]), 0),
        max(math.floor(low[1]), 0),
        min(math.ceil(high[0]) + 1, shape[1]),
        min(math.ceil(high[1]) + 1, shape[0]),
    )
