"""Painters that put an anomaly into any 8-bit radiograph of a hand, phantom or real."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.phantom.attenuation import Mask, Plane
from anomalib_xray.phantom.sites import Site, bone_sites, finger_sites

Image = NDArray[np.uint8]

PAINTED_KINDS = ("fracture", "plate", "screw", "ring", "lysis", "mass")
"""Kinds that :func:`paint_anomaly` puts into any radiograph."""
SKELETON_KINDS = ("missing_phalanx", "extra_phalanx")
"""Kinds that change the skeleton, so that only a phantom can show them."""
ANOMALY_KINDS = PAINTED_KINDS + SKELETON_KINDS
"""All kinds of anomalies."""

_VISIBLE = 6  # grey levels; smaller differences drown in the noise of a film


def paint_anomaly(image: Image, foreground: Mask, kind: str, rng: np.random.Generator) -> tuple[Image, Mask]:
    """Paint an anomaly into a radiograph.

    The painter looks for a plausible place by itself. Only foreground pixels change, and those that do are at least 1
    afterwards, so a prepared radiograph stays one.

    Args:
        image: Radiograph (H, W), 8 bit, bones bright.
        foreground: Mask of the hand, (H, W), boolean.
        kind: One of :data:`PAINTED_KINDS`.
        rng: Source of randomness; the same state gives the same picture.

    Returns:
        The new picture (H, W), and the mask (H, W) of the pixels that changed visibly, small gaps closed; never empty.

    Raises:
        XrayError: If the kind is unknown, the arrays do not fit together, or no plausible place is found.

    Example:
        >>> from anomalib_xray.phantom import render_phantom
        >>> rng = np.random.default_rng(0)
        >>> healthy = render_phantom(rng)
        >>> image, mask = paint_anomaly(healthy.image, healthy.foreground, "plate", rng)
        >>> image.shape == mask.shape, bool(mask.any())
        (True, True)
    """
    if kind not in _PAINTERS:
        raise XrayError(f"Unknown kind of painted anomaly {kind!r}: choose one of {', '.join(PAINTED_KINDS)}.")
    if image.ndim != 2 or image.dtype != np.uint8 or foreground.shape != image.shape or foreground.dtype != np.bool_:
        raise XrayError(
            "Painting needs a grey 8-bit image and a boolean foreground of the same shape, "
            f"not {image.dtype} {image.shape} and {foreground.dtype} {foreground.shape}."
        )
    least = 2e-4 * max(image.shape) ** 2
    for _ in range(8):
        painted = _PAINTERS[kind](image, foreground, rng)
        if painted is None:
            continue
        levels = np.clip(np.rint(painted), 1, 255).astype(np.uint8)
        touched = foreground & (np.abs(painted - image) >= 0.5)
        result = np.where(touched, levels, image)
        mask = changed_region(image, result) & foreground
        if mask.sum() >= least:
            return result, mask
    raise XrayError(f"No plausible place for the anomaly {kind!r} was found: check that the foreground covers a hand.")


def changed_region(before: Image, after: Image, *, visible: int = _VISIBLE) -> Mask:
    """Mask of the pixels in which two pictures (H, W) differ by at least ``visible`` levels, small gaps closed."""
    size = 2 * max(1, round(max(before.shape) / 170)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    changed = (cv2.absdiff(before, after) >= visible).astype(np.uint8)
    return np.asarray(cv2.morphologyEx(changed, cv2.MORPH_CLOSE, kernel) > 0)


def _paint_fracture(image: Image, foreground: Mask, rng: np.random.Generator) -> Plane | None:
    """A dark irregular line across a shaft; the far fragment has slipped sideways by a step that heals out."""
    site = _pick(bone_sites(image, foreground, rng), shortest=4.0, longest_of=3)
    if site is None:
        return None
    side = max(image.shape)
    u, v = site.coordinates(image.shape)
    half = site.half_width * 1.5
    slant = np.tan(np.deg2rad(rng.uniform(10, 40) * rng.choice([-1, 1])))
    knots = np.linspace(-half * 1.3, half * 1.3, 9)
    jags = rng.normal(0, max(0.10 * half, side / 700), 9)
    gap = u - slant * v - np.interp(v, knots, jags).astype(np.float32)
    across = np.clip(1.5 * (1.15 - np.abs(v) / half), 0, 1)
    step = np.float32(rng.uniform(0.22, 0.4) * site.half_width * rng.choice([-1, 1]))
    slip = step * (gap > 0) * np.exp(-np.abs(gap) / (0.9 * half)) * np.clip(1.9 - np.abs(v) / half, 0, 1)
    dx, dy = -site.along[1], site.along[0]
    x = (np.arange(image.shape[1], dtype=np.float32) - slip * np.float32(dx)).astype(np.float32)
    y = (np.arange(image.shape[0], dtype=np.float32)[:, None] - slip * np.float32(dy)).astype(np.float32)
    slipped = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    # Bilinear sampling at whole pixels is exact, so nothing changes where nothing slipped.
    width = np.float32(max(rng.uniform(0.0032, 0.0052) * side, 0.8))
    dark = np.exp(-((gap / width) ** 2)) * across
    level = _soft_level(image, foreground, site)
    return np.asarray(slipped - 0.95 * dark * np.maximum(slipped - 0.7 * level, 0), np.float32)


def _paint_plate(image: Image, foreground: Mask, rng: np.random.Generator) -> Plane | None:
    """A metal plate along a shaft, with its screws seen end on."""
    site = _pick(bone_sites(image, foreground, rng), shortest=4.5, longest_of=6)
    if site is None:
        return None
    side = max(image.shape)
    u, v = site.coordinates(image.shape)
    half_length = np.float32(np.clip(0.5 * sum(site.reach) * rng.uniform(0.75, 1.0), 0.05 * side, 0.14 * side))
    half_width = np.float32(np.clip(site.half_width * rng.uniform(0.6, 0.8), 0.011 * side, 0.022 * side))
    middle = np.float32((site.reach[1] - site.reach[0]) / 2)
    u = u - middle
    screws = max(3, round(float(half_length / (2.1 * half_width))))
    at = np.linspace(-1, 1, screws) * (half_length - half_width)
    nearest = np.min([np.abs(u - np.float32(position)) for position in at], axis=0)
    # The plate is waisted between its holes.
    waist = half_width * (0.8 + 0.2 * np.exp(-((nearest / half_width) ** 2)))
    distance = np.hypot(np.maximum(np.abs(u) - (half_length - half_width), 0), v) - waist
    metal = _coverage(distance)
    radial = np.hypot(nearest, v)
    head = _coverage(radial - 0.55 * half_width)
    rim = np.exp(-(((radial - 0.68 * half_width) / max(0.16 * half_width, 0.8)) ** 2))
    sheen = 1 - 0.1 * (v / half_width) ** 2
    level = 226 * sheen * (1 - head) + 250 * head - 70 * rim * (1 - head)
    return _blend(image, level, metal * 0.97)


def _paint_screw(image: Image, foreground: Mask, rng: np.random.Generator) -> Plane | None:
    """A threaded screw through a bone, aslant to its shaft."""
    site = _pick(bone_sites(image, foreground, rng), shortest=2.0)
    if site is None:
        return None
    side = max(image.shape)
    turn = np.deg2rad(rng.uniform(20, 65) * rng.choice([-1, 1]))
    along = complex(*site.along) * complex(np.cos(turn), np.sin(turn))
    u, v = Site(site.centre, (along.real, along.imag), site.half_width, site.reach).coordinates(image.shape)
    length = np.float32(np.clip(rng.uniform(2.6, 3.6) * site.half_width, 0.05 * side, 0.11 * side))
    core = np.float32(max(rng.uniform(0.0052, 0.0075) * side, 1.0))
    thread = core * (1 + 0.3 * np.sin(2 * np.pi * u / (1.5 * core)))
    taper = np.clip((u + length / 2) / (2.0 * core), 0.15, 1)
    shaft = _coverage(np.maximum(np.abs(v) - thread * taper, np.abs(u) - length / 2))
    head = _coverage(np.maximum(np.abs(v) - 2.0 * core, np.abs(u - length / 2) - 0.9 * core))
    return _blend(image, np.full(image.shape, 244, np.float32), np.maximum(shaft, head) * 0.97)


def _paint_ring(image: Image, foreground: Mask, rng: np.random.Generator) -> Plane | None:
    """A finger ring seen from the side: a bright band over the whole finger, a little bent, densest at its ends."""
    sites = list(itertools.islice(finger_sites(foreground, rng), 12))
    if not sites:
        return None
    # Rings are worn near the palm, where fingers are widest.
    site = max(sites, key=lambda candidate: candidate.half_width + rng.uniform(0, 3))
    side = max(image.shape)
    u, v = site.coordinates(image.shape)
    half_height = np.float32(rng.uniform(0.008, 0.012) * side)
    bow = np.float32(rng.uniform(-0.25, 0.25) * site.half_width)
    relative = v / np.float32(site.half_width)
    distance = np.maximum(
        np.abs(u - bow * (1 - relative**2)) - half_height, np.abs(relative) * site.half_width - 1.35 * site.half_width
    )
    level = 225 + 28 * np.clip(relative**2, 0, 1)
    return _blend(image, level, _coverage(distance) * 0.97)


def _paint_lysis(image: Image, foreground: Mask, rng: np.random.Generator) -> Plane | None:
    """A punched-out hole in a bone: dark, soft, lobed, with a hint of a denser rim."""
    site = _pick(bone_sites(image, foreground, rng), shortest=1.6, widest_of=6)
    if site is None:
        return None
    side = max(image.shape)
    radius = np.float32(np.clip(site.half_width * rng.uniform(0.95, 1.25), 0.021 * side, 0.036 * side))
    u, v = site.coordinates(image.shape)
    hole = np.zeros(image.shape, np.float32)
    for _ in range(4):
        du, dv = rng.uniform(-0.6, 0.6) * radius, rng.uniform(-0.25, 0.25) * radius
        distance = np.hypot((u - du) * np.float32(0.85), v - dv) / (radius * np.float32(rng.uniform(0.65, 0.95)))
        hole = np.maximum(hole, 1 / (1 + np.exp(np.clip(7.5 * (distance - 1), -30, 30))))
    hole = np.where(hole < 0.02, 0, hole).astype(np.float32)
    level = 0.85 * _soft_level(image, foreground, site)
    rim = 4 * hole * (1 - hole) * (hole < 0.5)
    return np.asarray(image - 0.88 * hole * np.maximum(image - level, 0) + 18 * rim * (rim > 0.2), np.float32)


def _paint_mass(image: Image, foreground: Mask, rng: np.random.Generator) -> Plane | None:
    """A dense soft-tissue mass: a lobed bright swelling beside or over the bones."""
    depth = cv2.distanceTransform(foreground.astype(np.uint8), cv2.DIST_L2, 5)
    side = max(image.shape)
    smooth = cv2.GaussianBlur(image, (0, 0), max(0.02 * side, 0.6))
    # Over the bright wrist a mass would drown.
    dim = smooth <= np.quantile(smooth[foreground], 0.6) if foreground.any() else foreground
    rows, columns = np.nonzero((depth > 0.2 * depth.max()) & dim)
    if rows.size == 0:
        return None
    chosen = int(rng.integers(rows.size))
    radius = np.float32(rng.uniform(0.045, 0.075) * side)
    x = np.arange(image.shape[1], dtype=np.float32) - np.float32(columns[chosen])
    y = np.arange(image.shape[0], dtype=np.float32)[:, None] - np.float32(rows[chosen])
    bulge = np.zeros(image.shape, np.float32)
    for _ in range(4):
        dx, dy = rng.uniform(-0.45, 0.45, 2) * radius
        distance = np.hypot(x - dx, y - dy) / (radius * np.float32(rng.uniform(0.6, 0.9)))
        bulge = np.maximum(bulge, np.sqrt(np.maximum(1 - distance**2, 0)))
    bulge = np.asarray(cv2.GaussianBlur(bulge, (0, 0), max(0.008 * side, 0.6)), np.float32)
    bulge[bulge < 0.02] = 0
    grey = image.astype(np.float32)
    typical = float(np.median(image[foreground]))
    # Extra attenuation darkens what is left of the beam: bright pixels gain less.
    gain = np.float32(rng.uniform(0.65, 0.9) * max(typical, 55)) * (1 - grey / 255) * 1.3
    return np.asarray(grey + bulge * gain, np.float32)


def _pick(sites: Iterator[Site], *, shortest: float, longest_of: int = 1, widest_of: int = 1) -> Site | None:
    """The first site (or the longest, the widest of the first few) with a straight run of ``shortest`` half widths."""
    fitting = (
        site
        for site in sites
        if min(site.reach) > 0.8 * site.half_width and sum(site.reach) > shortest * site.half_width
    )
    candidates = list(itertools.islice(fitting, max(longest_of, widest_of)))
    if not candidates:
        return None
    if longest_of > 1:
        return max(candidates, key=lambda site: site.reach[0] + site.reach[1])
    return max(candidates, key=lambda site: site.half_width)


def _soft_level(image: Image, foreground: Mask, site: Site) -> float:
    """Grey level of the soft tissue beside a bone: a low quantile of the foreground around it."""
    reach = int(3 * site.half_width) + 3
    column, row = round(site.centre[0]), round(site.centre[1])
    window = np.s_[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
    return float(np.quantile(image[window][foreground[window]], 0.15))


def _coverage(distance: NDArray[np.floating]) -> Plane:
    """Share of a pixel inside a shape, from the signed distance (negative inside) in pixels."""
    # Metal edges on film are a little softer than one pixel.
    return np.asarray(np.clip(0.5 - distance / 1.9, 0, 1), np.float32)


def _blend(image: Image, level: NDArray[np.floating], weight: NDArray[np.floating]) -> Plane:
    return np.asarray(image * (1 - weight) + level * weight, np.float32)


_PAINTERS: dict[str, Callable[[Image, Mask, np.random.Generator], Plane | None]] = {
    "fracture": _paint_fracture,
    "plate": _paint_plate,
    "screw": _paint_screw,
    "ring": _paint_ring,
    "lysis": _paint_lysis,
    "mass": _paint_mass,
}
