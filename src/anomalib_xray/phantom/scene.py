"""One picture with its ground truth: hands on a plate, exposed, and the other things that a real film shows."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.phantom.anatomy import Anatomy, sample_anatomy
from anomalib_xray.phantom.anomalies import ANOMALY_KINDS, Image
from anomalib_xray.phantom.arm import sample_leaving
from anomalib_xray.phantom.attenuation import Mask
from anomalib_xray.phantom.backdrop import Polygon, sample_divider
from anomalib_xray.phantom.exposure import PREPARED, SceneOptions, Shot, take
from anomalib_xray.phantom.plate import Box, Carrier, box_of, sample_carrier

LONGEST_SIDE = 512


@dataclasses.dataclass(frozen=True)
class Phantom:
    """A picture and its ground truth.

    Attributes:
        image: Grey levels (H, W), 8 bit; the longest side is 512.
        foreground: Mask of the hands and arms with what they wear, (H, W); nothing that a white strip hides.
        anomaly: Mask of the anomaly, (H, W); None without one.
        kind: The anomaly's kind; None without one.
        sides: ``"L"`` or ``"R"`` for each hand.
        hand_boxes: Box x0, y0, x1, y1 of each hand's foreground, pixels, the second corner outside.
        marker_boxes: The same of each marker.
        carrier_corners: The carrier's corners (x, y), clockwise from its top left one; None without a carrier.
        inverted: Whether bones are dark.
        axes: Direction (x, y) from the elbow to the wrist of each hand, a unit vector in the picture.
        mirrored: Whether each hand's thumb points to the left when its fingers point up.
        exposures: Corners (x, y) of each exposure's part of the picture, clockwise.
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
    axes: tuple[tuple[float, float], ...]
    mirrored: tuple[bool, ...]
    exposures: tuple[Polygon, ...]


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
    # No number is drawn unless asked for, so that the other options give the same pictures as without this one.
    if options.exposures and rng.random() < options.exposures:
        sides = (alone, alone)
        shot, exposures = _two_exposures(person, alone, shape, options, kind, rng)
    else:
        shot = take(person, sides, shape, options, kind, rng)
        exposures = (((0.0, 0.0), (float(shape[1]), 0.0), (float(shape[1]), float(shape[0])), (0.0, float(shape[0]))),)
    image, masks, anomaly, marker_boxes, axes = shot.image, shot.masks, shot.anomaly, shot.marker_boxes, shot.axes
    carrier = sample_carrier(shape, rng) if rng.random() < options.carrier else None
    inverted = bool(rng.random() < options.inverted)
    if carrier is not None:
        image, masks = carrier.picture(image), [carrier.mask(mask) for mask in masks]
        anomaly = None if anomaly is None else carrier.mask(anomaly)
        marker_boxes = [_moved_box(box, carrier, shape) for box in marker_boxes]
        exposures = tuple(_pairs(carrier.points(np.array(polygon))) for polygon in exposures)
        axes = [carrier.matrix[:, :2] @ axis for axis in axes]
    return Phantom(
        image=255 - image if inverted else image,
        foreground=np.logical_or.reduce(masks),
        anomaly=anomaly,
        kind=kind,
        sides=sides,
        hand_boxes=tuple(box_of(mask) for mask, _ in zip(masks, axes, strict=False)),
        marker_boxes=tuple(marker_boxes),
        carrier_corners=None if carrier is None else _pairs(carrier.corners(shape)),
        inverted=inverted,
        axes=tuple((float(x), float(y)) for x, y in (axis / np.hypot(*axis) for axis in axes)),
        mirrored=tuple(shot.mirrored),
        exposures=exposures,
    )


def _pairs(points: NDArray[np.float64]) -> tuple[tuple[float, float], ...]:
    return tuple((float(x), float(y)) for x, y in points.round(2))


def _two_exposures(
    person: Anatomy,
    side: str,
    shape: tuple[int, int],
    options: SceneOptions,
    kind: str | None,
    rng: np.random.Generator,
) -> tuple[Shot, tuple[Polygon, ...]]:
    """The same arm twice on a plate of shape (H, W); an anomaly is seen in the first exposure."""
    beside = shape[1] > shape[0] or rng.random() < 0.95
    divider = sample_divider(shape, rng, beside=beside)
    # In a narrow part an arm lies lengthwise.
    leaving = sample_leaving(rng) if rng.random() < 0.25 else float(rng.choice([0, 180] if beside else [90, 270]))
    shots, corners = [], []
    for polygon, region, each_kind in zip(divider.polygons, divider.masks, (kind, None), strict=True):
        x0, y0 = np.floor(np.min(polygon, axis=0)).astype(int).tolist()
        x1, y1 = np.ceil(np.max(polygon, axis=0)).astype(int).tolist()
        shot = take(person, (side,), (y1 - y0, x1 - x0), options, each_kind, rng, leaving)
        where = slice(y0, y1), slice(x0, x1)

        def whole(mask: Mask, where: tuple[slice, slice] = where, region: Mask = region) -> Mask:
            plane = np.zeros(shape, np.bool_)
            plane[where] = mask
            return plane & region

        boxes = [(a + x0, b + y0, c + x0, d + y0) for a, b, c, d in shot.marker_boxes]
        anomaly = None if shot.anomaly is None else whole(shot.anomaly)
        shots.append(
            dataclasses.replace(shot, masks=[whole(mask) for mask in shot.masks], marker_boxes=boxes, anomaly=anomaly)
        )
        corners.append((x0, y0))
    first, second = shots
    joined = Shot(
        image=divider.picture((first.image, second.image), tuple(corners)),
        masks=[
            *first.masks[: len(first.axes)],
            *second.masks,
            *first.masks[len(first.axes) :],
        ],
        axes=first.axes + second.axes,
        mirrored=first.mirrored + second.mirrored,
        marker_boxes=first.marker_boxes + second.marker_boxes,
        anomaly=first.anomaly,
    )
    return joined, divider.polygons


def _sample_shape(rng: np.random.Generator, *, lying: bool) -> tuple[int, int]:
    short = int(rng.integers(350, 451))
    return (short, LONGEST_SIDE) if lying else (LONGEST_SIDE, short)


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
