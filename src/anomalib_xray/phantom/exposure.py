"""One exposure with its ground truth: hands or an arm, what lies beside them, and the plate or film under them."""

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
from anomalib_xray.phantom.anomalies import PAINTED_KINDS, Image, changed_region, paint_anomaly
from anomalib_xray.phantom.arm import Arm, metal, place_arms, plaster, sample_arm, sample_leaving, thickened
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
from anomalib_xray.phantom.backdrop import Backdrop, sample_backdrop, sample_plate_film, strips
from anomalib_xray.phantom.hand import Hand
from anomalib_xray.phantom.plate import Box, Marker, bring_together, place_hands, place_marker

_LEAST_CHANGE = 150  # pixels of a bone more or fewer, so that it can be seen
_OUTSIDE = "The anomaly {kind!r} lies outside this picture: draw it with another random state."
_SEEN = 4.0  # grey levels that a strip must leave to whatever it hides


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
        arm: A whole arm instead of a hand with a piece of forearm: turned aside, flexed, its elbow bent or not.
        cast: That an arm wears a cast or a splint.
        metal: That an arm wears bangles or a ring, or has a bone plate.
        helper: Another person's hand, or a trunk, at a border.
        plate: A grey digital plate with stripes, gradients and a frame instead of a black film.
        strip: White strips at its borders.
        boxed: That a marker is a letter in a box.
        exposures: Two exposures on one plate.
    """

    prepared: bool = True
    landscape: float = 0.1
    carrier: float = 0.0
    marker: float = 0.0
    second_hand: float = 0.0
    touching: float = 0.0
    inverted: float = 0.0
    arm: float = 0.0
    cast: float = 0.0
    metal: float = 0.0
    helper: float = 0.0
    plate: float = 0.0
    strip: float = 0.0
    boxed: float = 0.0
    exposures: float = 0.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise XrayError(f"The scene option {field.name} is a probability from 0 to 1, not {value}.")
        beside = ("carrier", "marker", "second_hand", "inverted", "helper", "plate", "strip", "exposures")
        if self.prepared and any(getattr(self, name) for name in beside):
            raise XrayError(
                f"A prepared scene shows one hand or arm alone: set prepared=False for {', '.join(beside)}."
            )


PREPARED = SceneOptions()
"""One hand, background 0."""
RAW = SceneOptions(prepared=False, landscape=0.15, carrier=0.25, marker=0.8, second_hand=0.1, inverted=0.1)
"""Roughly the mixture of an unprepared archive."""
ARMS = SceneOptions(
    prepared=False, landscape=0.25, marker=0.1, boxed=0.6, second_hand=0.03, arm=1.0, cast=0.1, metal=0.15,
    helper=0.06, plate=1.0, strip=0.55, exposures=0.1,
)  # fmt: skip
"""Roughly the mixture of arms on digital plates, from the fingers to beyond the elbow."""


@dataclasses.dataclass(frozen=True)
class Shot:
    """One exposure: its picture, the mask, axis and mirroring of each hand, its markers and anomaly."""

    image: Image
    masks: list[Mask]  # a helper's is the last one, without an axis
    axes: list[NDArray[np.float64]]
    mirrored: list[bool]
    marker_boxes: list[Box]
    anomaly: Mask | None


@dataclasses.dataclass(frozen=True)
class _Plate:
    """The settings of a plate, which draw the same picture again for a changed skeleton."""

    shape: tuple[int, int]
    texture: Plane
    unevenness: Plane
    film: Film
    noise: int
    strip: Plane | None = None
    backdrop: Backdrop | None = None

    def hand(self, hand: Hand, placement: Placement) -> tuple[Plane, Mask]:
        mask = tissue_mask(hand, placement, self.shape)
        tissue = tissue_attenuation(mask, placement, self.unevenness)
        return tissue + bone_attenuation(hand, placement, self.shape, self.texture), mask

    def expose(self, attenuation: Plane, foreground: Mask, *, prepared: bool) -> Image:
        image = expose(attenuation, self.film, np.random.default_rng(self.noise))
        if self.backdrop is not None:
            image = self.backdrop.picture(image)
        return np.where(foreground, np.maximum(image, 1), 0).astype(np.uint8) if prepared else image


def take(
    person: Anatomy,
    sides: tuple[str, ...],
    shape: tuple[int, int],
    options: SceneOptions,
    kind: str | None,
    rng: np.random.Generator,
    leaving: float | None = None,
) -> Shot:
    """One exposure of one or two hands on a plate, or part of a plate, of shape (H, W)."""
    arms: list[Arm] = []
    if options.arm and rng.random() < options.arm:
        arms = [sample_arm(person, side, rng) for side in sides]
        hands = [arm.hand for arm in arms]
        leaving = sample_leaving(rng) if leaving is None else leaving
        placements = place_arms(arms, shape, leaving, rng)
    else:
        hands = [build_hand(person, sample_pose(rng), each) for each in sides]
        placements = place_hands(hands, shape, rng)
        if len(hands) == 2 and options.touching and rng.random() < options.touching:
            placements = bring_together(hands, placements, shape, rng)
    on_plate = options.plate and rng.random() < options.plate
    plate = _Plate(
        shape=shape,
        texture=bone_texture(rng),
        unevenness=_unevenness(shape, rng),
        film=sample_plate_film(rng) if on_plate else sample_film(rng, prepared=options.prepared),
        noise=int(rng.integers(2**32)),
    )
    if arms:
        plate = dataclasses.replace(plate, unevenness=thickened(plate.unevenness, arms[0], placements[0], rng))
    if on_plate:
        plate = dataclasses.replace(plate, backdrop=sample_backdrop(shape, rng))
    if options.strip and rng.random() < options.strip:
        plate = dataclasses.replace(plate, strip=strips(shape, plate.film, rng))
    worn = [
        (number, *wear(arm, placements[number], shape, rng))
        for number, arm in enumerate(arms)
        for share, wear in ((options.cast, plaster), (options.metal, metal))
        if share and rng.random() < share
    ]
    if options.helper and rng.random() < options.helper:
        worn.append((len(hands), *_helper(plate, placements[0], rng)))
    image, masks, markers, anomaly = _exposed(plate, hands, placements, worn, options, kind, rng)
    if kind in PAINTED_KINDS:
        image, anomaly = paint_anomaly(image, np.logical_or.reduce(masks), kind, rng)
    return Shot(
        image=image,
        masks=masks,
        axes=[_axis(hand, placement) for hand, placement in zip(hands, placements, strict=True)],
        mirrored=[placement.mirrored for placement in placements],
        marker_boxes=[marker.box for marker in markers],
        anomaly=anomaly,
    )


def _axis(hand: Hand, placement: Placement) -> NDArray[np.float64]:
    """The direction (x, y) of the forearm, towards the hand."""
    bones = [bone for bone in hand.bones if bone.name in {"radius", "ulna"}]
    base, head = (placement.points([getattr(bone, end) for bone in bones]).mean(axis=0) for end in ("base", "head"))
    return np.asarray(head - base, np.float64)


def _helper(plate: _Plate, placement: Placement, rng: np.random.Generator) -> tuple[Plane, Mask]:
    """Another person's hand, or a trunk, from a border: attenuation and mask, (H, W) each."""
    middle = np.array(plate.shape[::-1]) / 2
    angle = float(rng.uniform(0, 2 * math.pi))
    way = np.array([math.cos(angle), math.sin(angle)])
    border = middle * (1 + way * float(rng.uniform(0.75, 1.1)))
    if rng.random() < 0.6:
        hand = build_hand(sample_anatomy(rng), sample_pose(rng), str(rng.choice(["L", "R"])))
        if rng.random() < 0.5:  # it holds the other one
            border = placement.points([(0.0, -1.0)])[0] + way * placement.scale * float(rng.uniform(0.5, 1.5))
        scale = float(np.clip(placement.scale * rng.uniform(0.8, 1.5), 40, 90))
        turn = math.degrees(angle) - 90 + float(rng.normal(0, 25))
        return plate.hand(hand, Placement(scale, turn, (float(border[0]), float(border[1])), hand.side == "R"))
    body = np.zeros(plate.shape, np.uint8)
    axes = (float(rng.uniform(0.15, 0.5)) * middle * 2 * rng.uniform(0.6, 1.4, 2)).astype(int).tolist()
    centre = np.round(middle * (1 + 1.3 * way)).astype(int).tolist()
    cv2.ellipse(body, centre, axes, float(rng.normal(0, 20)), 0, 360, 1, -1)
    framed = cv2.copyMakeBorder(body, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1] / np.float32(min(axes))
    thickness = (1 - np.exp(-4 * depth)) * np.float32(rng.uniform(1, 4)) * (1 + 2 * plate.unevenness)
    return np.asarray(np.maximum(thickness, 0) * body, np.float32), body > 0


def _exposed(
    plate: _Plate,
    hands: list[Hand],
    placements: list[Placement],
    worn: list[tuple[int, Plane, Mask]],
    options: SceneOptions,
    kind: str | None,
    rng: np.random.Generator,
) -> tuple[Image, list[Mask], list[Marker], Mask | None]:
    """The plate's picture, the mask of each hand (and a helper), the markers, and the mask of a changed skeleton.

    ``worn`` gives the number of a hand with the attenuation and the mask of what it wears; the helper comes last.
    """
    healthy = [plate.hand(hand, placement) for hand, placement in zip(hands, placements, strict=True)]
    drawn = healthy
    if kind is not None and kind not in PAINTED_KINDS:
        changed = _changed_skeleton(hands[0], placements[0], plate.shape, kind, rng)
        drawn = [plate.hand(changed, placements[0]), *healthy[1:]]
    masks = _visible(drawn, worn, plate)
    foreground = np.logical_or.reduce(masks)
    found = [
        place_marker(foreground | _beside(plate.shape, position, len(hands)), hand.side, rng, boxed=options.boxed)
        for position, hand in enumerate(hands)
        if rng.random() < options.marker
    ]
    markers = [marker for marker in found if marker is not None]
    lead = [*(marker.attenuation for marker in markers), *(plane for _, plane, _ in worn)]
    if plate.strip is not None:
        lead.append(plate.strip)
    image = plate.expose(_total(drawn, lead), foreground, prepared=options.prepared)
    if drawn is healthy:
        return image, masks, markers, None
    covered = np.logical_or.reduce(_visible(healthy, worn, plate))
    before = plate.expose(_total(healthy, lead), covered, prepared=options.prepared)
    changed_pixels = changed_region(before, image) & foreground
    if changed_pixels.sum() < _LEAST_CHANGE:
        raise XrayError(_OUTSIDE.format(kind=kind))
    return image, masks, markers, changed_pixels


def _visible(drawn: list[tuple[Plane, Mask]], worn: list[tuple[int, Plane, Mask]], plate: _Plate) -> list[Mask]:
    """The mask of each hand with what it wears, and of a helper, without what a strip hides."""
    masks = [mask for _, mask in drawn]
    for number, _, mask in worn:
        masks[number:] = [np.logical_or.reduce([*masks[number : number + 1], mask]), *masks[number + 1 :]]
    if plate.strip is None:
        return masks
    film = plate.film
    shows = np.exp(-film.contrast * plate.strip) * np.float32(film.white - film.black) > _SEEN
    return [mask & shows for mask in masks]


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
    if not visible:
        raise XrayError(_OUTSIDE.format(kind=kind))
    return without_bone(hand, str(rng.choice(visible)))


def _unevenness(shape: tuple[int, int], rng: np.random.Generator) -> Plane:
    coarse = cv2.GaussianBlur(rng.standard_normal((16, 16), dtype=np.float32), (0, 0), 1.1)
    return np.asarray(cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC) * np.float32(0.16), np.float32)
