"""The attenuation of the beam by a hand (Beer-Lambert), and the grey levels of a digitised film of it."""

from __future__ import annotations

import dataclasses
import math

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomalib_xray.phantom.hand import Bone, Carpal, Hand

Plane = NDArray[np.float32]
"""A picture plane (H, W)."""
Mask = NDArray[np.bool_]
"""A boolean plane (H, W)."""

_CORTEX = 4.8  # attenuation of one hand unit of compact bone
_MEDULLA = 1.35  # of spongy bone with marrow
_TISSUE = 0.38  # of the palm's soft tissue at its thickest
_GRAIN = 1.8  # restores the noise's spread after its blur
_OVERSAMPLING = 2  # bones are drawn finer than the picture: a cortex is hardly wider than a pixel


@dataclasses.dataclass(frozen=True)
class Placement:
    """The place of a hand on the picture.

    Attributes:
        scale: Pixels per hand unit.
        degrees: Turn of the hand, clockwise on the picture.
        offset: Pixel position (x, y) of the hand's origin.
        mirrored: Whether the thumb points the other way (a right hand).
    """

    scale: float
    degrees: float
    offset: tuple[float, float]
    mirrored: bool

    def points(self, points: ArrayLike) -> NDArray[np.float64]:
        """Pixel positions (K, 2) of points (K, 2) in hand units."""
        turn = math.radians(self.degrees)
        matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        flip = np.array([-1.0 if self.mirrored else 1.0, 1.0])
        moved: NDArray[np.float64] = (np.asarray(points, float) * flip) @ matrix.T * self.scale + self.offset
        return moved


def bone_texture(rng: np.random.Generator) -> Plane:
    """A tile of trabecular texture (256, 256), mean 0, fibres along the first axis."""
    noise = rng.standard_normal((256, 256), dtype=np.float32)
    fine = cv2.GaussianBlur(noise, (0, 0), sigmaX=0.9, sigmaY=2.3) - cv2.GaussianBlur(noise, (0, 0), sigmaX=4, sigmaY=9)
    return np.asarray(fine / fine.std(), np.float32)


def bone_attenuation(hand: Hand, placement: Placement, shape: tuple[int, int], texture: Plane) -> Plane:
    """Attenuation (H, W), at least 0, of all bones of a hand; bones that lie over each other add up.

    ``texture`` is a trabecular one from :func:`bone_texture`.
    """
    fine = dataclasses.replace(
        placement,
        scale=placement.scale * _OVERSAMPLING,
        offset=(placement.offset[0] * _OVERSAMPLING, placement.offset[1] * _OVERSAMPLING),
    )
    plane = np.zeros((shape[0] * _OVERSAMPLING, shape[1] * _OVERSAMPLING), np.float32)
    for bone in hand.bones:
        _add_bone(plane, bone, fine, texture)
    for carpal in hand.carpals:
        _add_carpal(plane, carpal, fine, texture)
    return np.asarray(cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_AREA), np.float32)


def tissue_mask(hand: Hand, placement: Placement, shape: tuple[int, int]) -> Mask:
    """Mask (H, W) of the hand: the smooth union of the soft tissue around its bones."""
    plane = np.zeros(shape, np.uint8)
    shift = 4
    cv2.fillPoly(plane, [_fixed(placement.points(hand.palm), shift)], 255, cv2.LINE_AA, shift)
    for segment in hand.tissue:
        ends = placement.points([segment.start, segment.end])
        radii = np.array(segment.radii) * placement.scale
        for end, radius in zip(ends, radii, strict=True):
            cv2.circle(plane, _fixed(end, shift).tolist(), int(radius * 2**shift), 255, -1, cv2.LINE_AA, shift)
        along = ends[1] - ends[0]
        across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6)
        sides = np.concatenate([ends + across * radii[:, None], (ends - across * radii[:, None])[::-1]])
        cv2.fillPoly(plane, [_fixed(sides, shift)], 255, cv2.LINE_AA, shift)
    # The webs between the fingers: closing fills narrow notches, blurring rounds what is left.
    size = 2 * max(1, round(0.03 * placement.scale)) + 1
    closed = cv2.morphologyEx(plane, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    border = cv2.BORDER_REPLICATE
    return np.asarray(cv2.GaussianBlur(closed, (0, 0), max(0.03 * placement.scale, 1), borderType=border) > 127)


def tissue_attenuation(mask: Mask, placement: Placement, unevenness: Plane) -> Plane:
    """Attenuation (H, W) of the soft tissue under a mask (H, W), 0 outside: thin at the skin, thick in the palm.

    ``unevenness`` is a smooth field (H, W) around 0 that thickens or thins the tissue.
    """
    scale = placement.scale
    # A border of hand all around, so that the forearm does not get thin where the picture cuts it.
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1] / np.float32(scale)
    thickness = np.power(1 - np.exp(-depth / 0.24), 0.72)
    # The distance has a crease along the middle of every finger; flesh has none.
    thickness = cv2.GaussianBlur(thickness, (0, 0), max(0.03 * scale, 0.5), borderType=cv2.BORDER_REPLICATE)
    # Wrist and forearm are about twice as thick as the palm, the fingers are slimmer.
    origin, forearm = placement.points([(0.0, 0.0), (0.0, 1.0)]).astype(np.float32)
    x = np.arange(mask.shape[1], dtype=np.float32) - origin[0]
    y = np.arange(mask.shape[0], dtype=np.float32)[:, None] - origin[1]
    down = (x * (forearm[0] - origin[0]) + y * (forearm[1] - origin[1])) / np.float32(scale**2)
    stature = 1 + np.float32(0.9) / (1 + np.exp(np.float32(-3.5) * (down - np.float32(0.25))))
    return np.asarray(_TISSUE * thickness * stature * (1 + unevenness) * mask, np.float32)


def _add_bone(plane: Plane, bone: Bone, placement: Placement, texture: Plane) -> None:
    """Add a tube with a wall of cortex around medulla."""
    ends = placement.points([bone.base, bone.head])
    length = float(np.hypot(*(ends[1] - ends[0])))
    margin = max(bone.widths) * placement.scale * 0.6 + 2
    window = _window(plane, ends.min(axis=0) - margin, ends.max(axis=0) + margin)
    if window is None:
        return
    rows, columns = window
    along = ((ends[1] - ends[0]) / length).astype(np.float32)
    x = np.arange(columns.start, columns.stop, dtype=np.float32) + np.float32(0.5) - np.float32(ends[0, 0])
    y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + np.float32(0.5) - np.float32(ends[0, 1])
    u = (x * along[0] + y * along[1]) / np.float32(length)
    bow = np.float32(bone.bend * length * (-1 if placement.mirrored else 1))
    v = y * along[0] - x * along[1] + bow * 4 * u * (1 - u)
    scale = placement.scale
    # Hollow joint faces: in the middle of its ends the bone is a little shorter.
    hollow_base, hollow_head = (np.float32(hollow / bone.length) for hollow in bone.hollows)
    ends_half = np.float32(scale / 2) * np.array(bone.widths, np.float32)
    near_base, near_head = np.clip(1 - u, 0, 1) ** 6, np.clip(u, 0, 1) ** 6
    u = u - hollow_base * near_base * np.maximum(1 - (v / ends_half[0]) ** 2, 0)
    u = u + hollow_head * near_head * np.maximum(1 - (v / ends_half[2]) ** 2, 0)
    outer, inner = _profiles(bone)
    index = np.clip(u * (outer.size - 1) + 0.5, 0, outer.size - 1).astype(np.int32)
    inside = (u > 0) & (u < 1)
    square = (v / np.float32(scale)) ** 2
    whole = 2 * np.sqrt(np.maximum(outer[index] ** 2 - square, 0)) * inside
    core = 2 * np.sqrt(np.maximum(inner[index] ** 2 - square, 0)) * inside
    grain = texture[(np.abs(u) * length).astype(np.int32) % 256, np.abs(v + 128).astype(np.int32) % 256]
    absorbed = _CORTEX * (whole - core) + _MEDULLA * core * (1 + np.float32(0.22) * grain)
    if bone.growth_plate is not None:
        # A cartilage disc lets the beam through; the bone on both sides of it is denser.
        half_width = np.float32(max(bone.widths[0], bone.widths[2]) * scale / 2)
        distance = (u - np.float32(bone.growth_plate)) * np.float32(length / scale) + 0.02 * (v / half_width) ** 2
        absorbed *= (
            1 - 0.85 * np.exp(-((distance / 0.016) ** 2)) + 0.25 * np.exp(-(((np.abs(distance) - 0.04) / 0.015) ** 2))
        )
    plane[rows, columns] += absorbed.astype(np.float32)


def _profiles(bone: Bone, samples: int = 512) -> tuple[Plane, Plane]:
    """Half widths of the bone and of its medulla from base to head, hand units, (samples,) each."""
    u = np.linspace(0, 1, samples)
    base, shaft, head = (width / 2 for width in bone.widths)
    length = bone.length
    # Flares reach about as far as the bone is wide; in a short bone they meet.
    reach_base = min(1.1 * 2 * base / length, 0.27)
    reach_head = min(0.95 * 2 * head / length, 0.23)
    half = (
        shaft
        + (base - shaft) * np.exp(-((u / reach_base) ** 2))
        + (head - shaft) * np.exp(-(((1 - u) / reach_head) ** 2))
    )
    distance_base, distance_head = u * length, (1 - u) * length

    def cap(distance: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
        return np.power(np.maximum(1 - (1 - np.clip(distance / reach, 0, 1)) ** 2.6, 0), 1 / 2.6)

    reach_caps = (2 * base * bone.roundness[0], 2 * head * bone.roundness[1])
    outer = half * cap(distance_base, reach_caps[0]) * cap(distance_head, reach_caps[1])
    ends = np.exp(-((u / 0.2) ** 2)) + np.exp(-(((1 - u) / 0.2) ** 2))
    wall = bone.cortex * (1 - 0.72 * np.minimum(ends, 1))
    shell = 0.014
    inner = np.maximum(half - wall, 0) * cap(np.maximum(distance_base - shell, 0), reach_caps[0])
    inner *= cap(np.maximum(distance_head - shell, 0), reach_caps[1])
    return outer.astype(np.float32), np.minimum(inner, outer).astype(np.float32)


def _add_carpal(plane: Plane, carpal: Carpal, placement: Placement, texture: Plane) -> None:
    """Add a rounded body with a thin shell of cortex."""
    outline = placement.points(_rounded(carpal.outline))
    window = _window(plane, outline.min(axis=0) - 2, outline.max(axis=0) + 2)
    if window is None:
        return
    rows, columns = window
    body = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
    cv2.fillPoly(body, [_fixed(outline - (columns.start, rows.start), 4)], 255, cv2.LINE_8, 4)
    depth = cv2.distanceTransform(body, cv2.DIST_L2, 5) / np.float32(placement.scale)

    def chord(distance: Plane) -> Plane:
        reach = np.float32(0.09)
        return np.asarray(np.sqrt(np.maximum(1 - (1 - np.clip(distance / reach, 0, 1)) ** 2, 0)) * 0.2, np.float32)

    whole, core = chord(depth), chord(np.maximum(depth - np.float32(0.014), 0))
    grain = np.resize(texture, (body.shape[0], 256))[:, np.arange(body.shape[1]) % 256]
    plane[rows, columns] += (0.85 * _CORTEX * (whole - core) + _MEDULLA * core * (1 + 0.24 * grain)) * (body > 0)


def _rounded(outline: NDArray[np.float64]) -> NDArray[np.float64]:
    """A closed outline with its corners cut three times (Chaikin, 1974)."""
    for _ in range(3):
        following = np.roll(outline, -1, axis=0)
        outline = np.stack([0.75 * outline + 0.25 * following, 0.25 * outline + 0.75 * following], 1).reshape(-1, 2)
    return outline


def _window(plane: Plane, low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[slice, slice] | None:
    """The rows and columns of a plane between two corners (x, y); None if they miss it."""
    x0, y0 = np.maximum(np.floor(low), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(high), plane.shape[::-1]).astype(int)
    return (slice(int(y0), int(y1)), slice(int(x0), int(x1))) if x1 > x0 and y1 > y0 else None


def _fixed(points: NDArray[np.float64], shift: int) -> NDArray[np.int32]:
    """Points in the fixed-point numbers of OpenCV's drawing functions."""
    return np.asarray(np.round(points * 2**shift), np.int32)


@dataclasses.dataclass(frozen=True)
class Film:
    """The response of a film to an exposure.

    Attributes:
        contrast: Steepness of the response.
        black: Grey level of the unattenuated beam.
        white: Grey level that dense metal comes close to.
        photons: Mean count of photons per pixel of the unattenuated beam; fewer are noisier.
        scatter: Share of the attenuation that scattered light spreads around.
        vignette: Loss of brightness in the corners, 0 to 1.
        vignette_centre: Brightest place (x, y) as shares of width and height.
    """

    contrast: float
    black: float
    white: float
    photons: float
    scatter: float
    vignette: float
    vignette_centre: tuple[float, float]


def sample_film(rng: np.random.Generator, *, prepared: bool) -> Film:
    """An exposure drawn at random; prepared ones vary less, as their contrast was evened out."""
    dull = not prepared and rng.random() < 0.15
    black = float(rng.uniform(4, 12)) if prepared else float(rng.uniform(1, 45))
    return Film(
        contrast=float(rng.uniform(0.85, 1.25)),
        black=black,
        white=float(rng.uniform(95, 140)) if dull else float(rng.uniform(238, 255)),
        photons=float(np.exp(rng.uniform(np.log(6e3), np.log(4e4)))),
        scatter=float(rng.uniform(0.02, 0.07)),
        vignette=float(rng.uniform(0.02, 0.14)),
        vignette_centre=(float(rng.uniform(0.35, 0.65)), float(rng.uniform(0.35, 0.65))),
    )


def expose(attenuation: Plane, film: Film, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The 8-bit picture (H, W) of an attenuation (H, W), with photon noise, scatter, blur and vignetting."""
    height, width = attenuation.shape
    coarse = cv2.resize(attenuation, (max(width // 8, 1), max(height // 8, 1)), interpolation=cv2.INTER_AREA)
    haze = cv2.resize(cv2.GaussianBlur(coarse, (0, 0), 5), (width, height), interpolation=cv2.INTER_LINEAR)
    beam = np.asarray(cv2.GaussianBlur(attenuation, (0, 0), 0.55) + np.float32(film.scatter) * haze, np.float32)
    # With N photons left, log N is off by 1/sqrt(N): Poisson noise in the Gaussian limit, seen through the logarithm.
    noise = rng.standard_normal(attenuation.shape, dtype=np.float32)
    grain = cv2.GaussianBlur(noise, (0, 0), 0.6) * np.float32(_GRAIN)
    beam = beam + grain * np.sqrt(np.exp(np.minimum(beam, 4)) / np.float32(film.photons))
    x = np.linspace(0, 1, width, dtype=np.float32) - np.float32(film.vignette_centre[0])
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None] - np.float32(film.vignette_centre[1])
    falloff = 1 - np.float32(film.vignette) * (x**2 + y**2) / np.float32(0.5)
    response = 1 - np.exp(-np.float32(film.contrast) * np.maximum(beam, 0))
    grey = (film.black + (film.white - film.black) * response) * falloff
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)
