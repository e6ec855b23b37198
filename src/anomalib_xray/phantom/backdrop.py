"""The look of a digital plate: grey, striped and uneven, with strips and frames, shared by up to two exposures."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.phantom.attenuation import Film, Mask, Plane

Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y), clockwise."""

_BORDERS = ("bottom", "top", "left", "right")


def sample_plate_film(rng: np.random.Generator) -> Film:
    """An exposure of a digital plate: dark grey rather than black, little noise, soft tissue of little contrast."""
    return Film(
        contrast=float(np.exp(rng.uniform(np.log(0.3), np.log(1.2)))),
        black=float(rng.choice([rng.uniform(2, 14), rng.uniform(14, 52)], p=(0.25, 0.75))),
        white=float(rng.uniform(205, 255)),
        photons=float(np.exp(rng.uniform(np.log(6e4), np.log(2e6)))),
        scatter=float(rng.uniform(0.0, 0.06)),
        vignette=float(rng.uniform(0.0, 0.25)),
        vignette_centre=(float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.3, 0.7))),
    )


def _wavy(length: int, sigma: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A smooth random line (length,) of standard deviation about 1."""
    coarse = rng.standard_normal(max(int(length / sigma) + 3, 4))
    return np.interp(np.linspace(0, coarse.size - 1, length), np.arange(coarse.size), coarse)


def strips(shape: tuple[int, int], film: Film, rng: np.random.Generator) -> Plane:
    """The attenuation (H, W) of white strips and of glows at one or two borders, on a film."""
    opaque = float(rng.choice([rng.uniform(1, 2.5), rng.uniform(2.5, 6)], p=(0.35, 0.65))) / film.contrast
    plane = np.zeros(shape, np.float32)
    for border in rng.choice(_BORDERS, 1 if rng.random() < 0.75 else 2, replace=False, p=(0.55, 0.2, 0.08, 0.17)):
        lying = border in ("bottom", "top")
        length, depth = (shape[1], shape[0]) if lying else shape
        share = float(rng.choice([rng.uniform(0.008, 0.05), rng.uniform(0.05, 0.22)], p=(0.7, 0.3)))
        t = np.linspace(-0.5, 0.5, length)
        edge = share * depth + np.tan(np.deg2rad(rng.normal(0, 1.5))) * t * length
        if rng.random() < 0.3:  # a ragged cloth or cassette edge
            edge += _wavy(length, 9, rng) * rng.uniform(0.5, 2.5) + _wavy(length, 60, rng) * rng.uniform(0, 5)
        if rng.random() < 0.35:  # a little notch of the cassette
            edge -= 10 * np.exp(-(((t - rng.uniform(-0.4, 0.4)) * length / rng.uniform(2, 5)) ** 2))
        soft = float(np.exp(rng.uniform(np.log(0.4), np.log(12))))
        beyond = np.arange(depth, dtype=np.float32)[:, None] - edge.astype(np.float32)
        glow = float(rng.uniform(0, 0.4))
        bar = opaque / (1 + np.exp(np.clip(beyond / np.float32(soft), -30, 30)))
        bar += glow * np.exp(-np.maximum(beyond, 0) / np.float32(rng.uniform(4, 40)))
        bar = bar[::-1] if border in ("bottom", "right") else bar
        plane += bar if lying else bar.T
    return plane


@dataclasses.dataclass(frozen=True)
class Backdrop:
    """The grey levels that a plate and its reader add to a picture (H, W).

    Attributes:
        offset: Stripes, gradients and uneven background, grey levels, (H, W).
        halo: Strength of the reader's edge filter, which darkens the surroundings of bright things.
        reach: Its range, pixels.
        frame: Darkness of the frame at the borders, 0 to 1 per pixel, (H, W).
        outline: Brightness of thin lines around the plate, 0 to 1 per pixel, (H, W).
    """

    offset: Plane
    halo: float
    reach: float
    frame: Plane
    outline: Plane

    def picture(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The image (H, W) on this plate."""
        grey = image.astype(np.float32)
        coarse = cv2.resize(grey, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        around = cv2.resize(cv2.GaussianBlur(coarse, (0, 0), self.reach / 4), grey.shape[::-1])
        grey += np.float32(self.halo) * (grey - around)
        grey += self.offset * (1 - grey / 255)
        grey = np.maximum(grey, 0) * (1 - self.frame)
        grey += (250 - grey) * self.outline
        return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def sample_backdrop(shape: tuple[int, int], rng: np.random.Generator) -> Backdrop:
    """The look of a plate drawn at random for a picture (H, W)."""
    height, width = shape
    lying = rng.random() < 0.25
    length = height if lying else width
    waves = [_wavy(length, sigma, rng) * rng.uniform(0, 1) for sigma in (1.5, 5, 16, 50)]
    line = np.asarray(np.sum(waves, axis=0), np.float32) * np.float32(rng.uniform(0, 1.4))
    patches = cv2.GaussianBlur(rng.standard_normal((8, 8), dtype=np.float32), (0, 0), 1.2)
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    slope = rng.normal(0, 3, 2).astype(np.float32)
    offset = (line[:, None] if lying else line) + slope[0] * x + slope[1] * y
    offset = offset + cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(
        rng.uniform(0, 9)
    )
    frame, outline = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    if rng.random() < 0.5:
        margin = rng.uniform(0.5, 9, 4)
        turn = float(rng.normal(0, 0.6))
        box = ((width + margin[0] - margin[1]) / 2, (height + margin[2] - margin[3]) / 2)
        size = (width - margin[0] - margin[1], height - margin[2] - margin[3])
        corners = np.round(cv2.boxPoints((box, size, turn)) * 16).astype(np.int32)
        if rng.random() < 0.7:
            inside = np.zeros(shape, np.float32)
            cv2.fillConvexPoly(inside, corners, 1, cv2.LINE_AA, 4)
            frame = np.float32(rng.uniform(0.4, 1)) * (1 - cv2.GaussianBlur(inside, (0, 0), float(rng.uniform(0.4, 2))))
        if rng.random() < 0.6:
            cv2.polylines(outline, [corners], True, 1, 1, cv2.LINE_AA, 4)
            broken = np.clip(
                0.4 + 0.6 * cv2.resize(rng.standard_normal((14, 14), dtype=np.float32), (width, height)), 0, 1
            )
            outline *= broken * np.float32(rng.uniform(0.2, 1))
    return Backdrop(offset, float(rng.choice([0, rng.uniform(0, 0.6)])), float(rng.uniform(8, 40)), frame, outline)


@dataclasses.dataclass(frozen=True)
class Divider:
    """What parts two exposures on one plate.

    Attributes:
        polygons: The plate's share of each exposure, in pixels (x, y).
        masks: The same as masks (H, W).
        ground: Grey level between them.
        wedge: Brightness 0 to 1 of a white wedge there, (H, W).
        white: Its grey level.
    """

    polygons: tuple[Polygon, Polygon]
    masks: tuple[Mask, Mask]
    ground: float
    wedge: Plane
    white: float

    def picture(self, images: tuple[NDArray[np.uint8], ...], corners: tuple[tuple[int, int], ...]) -> NDArray[np.uint8]:
        """The exposures (h, w), whose top left corners (x, y) are given, on one plate (H, W)."""
        plate = np.full(self.wedge.shape, self.ground, np.float32)
        for image, (x, y), mask in zip(images, corners, self.masks, strict=True):
            rows, columns = slice(y, y + image.shape[0]), slice(x, x + image.shape[1])
            plate[rows, columns] = np.where(mask[rows, columns], image, plate[rows, columns])
        plate += (self.white - plate) * self.wedge
        return np.clip(np.rint(plate), 0, 255).astype(np.uint8)


def sample_divider(shape: tuple[int, int], rng: np.random.Generator, *, beside: bool = True) -> Divider:
    """A divider drawn at random between two exposures on a picture (H, W), beside or below each other."""
    if not beside:
        turned = sample_divider((shape[1], shape[0]), rng)
        # Swapping x and y turns the order of the corners around.
        first, second = (tuple((y, x) for x, y in polygon[::-1]) for polygon in turned.polygons)
        masks = (turned.masks[0].T, turned.masks[1].T)
        return dataclasses.replace(turned, polygons=(first, second), masks=masks, wedge=turned.wedge.T)
    height, width = shape
    kind = rng.choice(["wedge", "line", "band", "step"], p=(0.5, 0.2, 0.15, 0.15))
    gap = np.zeros(2) if kind == "step" else rng.uniform(0.005, 0.02 if kind == "line" else 0.07, 2) * width
    top = width * rng.uniform(0.42, 0.58)
    middle = np.array([top, top + width * rng.uniform(-0.06, 0.06)])
    (lt, lb), (rt, rb) = (np.round(middle - gap / 2, 2).tolist(), np.round(middle + gap / 2, 2).tolist())
    polygons: tuple[Polygon, Polygon] = (
        ((0.0, 0.0), (lt, 0.0), (lb, float(height)), (0.0, float(height))),
        ((rt, 0.0), (float(width), 0.0), (float(width), float(height)), (rb, float(height))),
    )
    rows = (np.arange(height) + 0.5)[:, None] / height
    columns = np.arange(width) + 0.5
    left, right = columns < lt + (lb - lt) * rows, columns >= rt + (rb - rt) * rows
    wedge = np.zeros(shape, np.float32)
    if kind == "wedge":
        # It tapers towards one end, and may end before the border.
        begin, tip = (float(rng.choice([0, rng.uniform(0, 0.1)])), float(rng.uniform(0.55, 1.3)))
        broad = width * float(rng.uniform(0.015, 0.055))
        along = (rows if rng.random() < 0.7 else 1 - rows)[:, 0]
        half = broad / 2 * np.clip((tip - along) / (tip - begin), 0, 1) * (along > begin)
        half = half + (half > 0) * _wavy(height, 4, rng) * 0.4 * (rng.random() < 0.6)
        centre = middle[0] + (middle[1] - middle[0]) * rows[:, 0] + width * rng.uniform(-0.012, 0.012)
        wedge = np.clip(0.5 + half[:, None] - np.abs(columns - centre[:, None]), 0, 1).astype(np.float32)
        wedge *= (half > 0)[:, None]
        left, right = left & (wedge < 0.5), right & (wedge < 0.5)
    bright = {"band": 0.7, "wedge": 0.4}.get(str(kind), 0.0)
    dark = rng.uniform(15, 80) if rng.random() < bright else rng.uniform(0, 12)
    return Divider(polygons, (left, right), float(dark), wedge, float(rng.uniform(190, 255)))
