"""Plausible places for an anomaly on a radiograph, and a rough foreground to look for them in."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.phantom.attenuation import Mask, Plane

_FULLEST = 0.55  # share of the picture that a hand covers at most
_LARGEST_HOLE = 0.02  # share of the picture that a hole in a hand covers at most


@dataclasses.dataclass(frozen=True)
class Site:
    """A place on an elongated structure, in pixels.

    Attributes:
        centre: Position (x, y).
        along: Unit vector (x, y) of the structure's long axis.
        half_width: Half its width.
        reach: Its straight length from the centre, against and along the axis.
    """

    centre: tuple[float, float]
    along: tuple[float, float]
    half_width: float
    reach: tuple[float, float]

    def coordinates(self, shape: tuple[int, ...]) -> tuple[Plane, Plane]:
        """Pixel coordinates along and across the structure, (H, W) each, 0 at the centre."""
        x = np.arange(shape[1], dtype=np.float32) - np.float32(self.centre[0])
        y = np.arange(shape[0], dtype=np.float32)[:, None] - np.float32(self.centre[1])
        dx, dy = np.float32(self.along[0]), np.float32(self.along[1])
        return x * dx + y * dy, y * dx - x * dy


def bone_contrast(image: NDArray[np.uint8], foreground: Mask) -> Plane:
    """Brightness of each pixel above its surroundings in the foreground, (H, W); about 0 in soft tissue."""
    side = max(image.shape)
    weight = foreground.astype(np.float32)
    grey = image.astype(np.float32) * weight

    def mean(sigma: float) -> Plane:
        return np.asarray(
            cv2.GaussianBlur(grey, (0, 0), sigma) / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma), 1e-3),
            np.float32,
        )

    near, far = mean(max(side / 340, 0.7)), mean(side / 26)
    return np.asarray((near - far) / (far + 8) * weight, np.float32)


def bone_sites(
    image: NDArray[np.uint8], foreground: Mask, rng: np.random.Generator, *, tries: int = 400
) -> Iterator[Site]:
    """Yield places on the shafts of long bones, in random order; possibly none.

    Bones are brighter than their surroundings; the direction is the main axis of the bone pixels near by, and only
    places where these are clearly elongated are kept. ``tries`` is the number of pixels that are looked at.
    """
    side = max(image.shape)
    contrast = bone_contrast(image, foreground)
    inner = cv2.erode(foreground.astype(np.uint8), np.ones((3, 3), np.uint8), iterations=max(1, side // 100)) > 0
    if not inner.any():
        return
    positive = np.clip(contrast[inner] * 255, 0, 255).astype(np.uint8)
    threshold, _ = cv2.threshold(positive, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    bone = ((contrast * 255 > max(threshold * 0.6, 2)) & inner).astype(np.uint8)
    bone = cv2.morphologyEx(bone, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)).astype(np.uint8)
    depth = np.asarray(cv2.distanceTransform(bone, cv2.DIST_L2, 5), np.float32)
    ridge = (depth >= cv2.dilate(depth, np.ones((5, 5), np.uint8))) & (depth > side * 0.008) & (depth < side * 0.06)
    yield from _elongated_sites(bone > 0, depth, ridge, rng, tries=tries, slimness=2.2)


def finger_sites(foreground: Mask, rng: np.random.Generator, *, tries: int = 200) -> Iterator[Site]:
    """Yield places on the fingers, in random order: parts of the foreground much slimmer than the palm."""
    framed = cv2.copyMakeBorder(foreground.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    depth = np.asarray(cv2.distanceTransform(framed, cv2.DIST_L2, 5)[1:-1, 1:-1], np.float32)
    palm = float(depth.max())
    ridge = (depth >= cv2.dilate(depth, np.ones((5, 5), np.uint8))) & (depth > 0.14 * palm) & (depth < 0.42 * palm)
    margin = int(np.ceil(0.4 * palm))
    ridge[:margin], ridge[-margin:], ridge[:, :margin], ridge[:, -margin:] = False, False, False, False
    yield from _elongated_sites(foreground, depth, ridge, rng, tries=tries, slimness=1.8)


def _elongated_sites(
    structure: Mask, depth: Plane, ridge: Mask, rng: np.random.Generator, *, tries: int, slimness: float
) -> Iterator[Site]:
    rows, columns = np.nonzero(ridge)
    order = rng.permutation(rows.size)[:tries]
    for i in order:
        site = _site(structure, depth, int(rows[i]), int(columns[i]), slimness)
        if site is not None:
            yield site


def _site(structure: Mask, depth: Plane, row: int, column: int, slimness: float) -> Site | None:
    """The place around a pixel; None if the structure there is not elongated."""
    half_width = float(depth[row, column])
    radius = int(np.ceil(3.2 * half_width))
    top, left = max(row - radius, 0), max(column - radius, 0)
    patch = structure[top : row + radius + 1, left : column + radius + 1]
    # Only the part that hangs together with the pixel: a neighbouring finger must not turn the axis.
    _, labels = cv2.connectedComponents(patch.astype(np.uint8))
    ys, xs = np.nonzero(labels == labels[row - top, column - left])
    offsets = np.stack([xs + left - column, ys + top - row]).astype(np.float64)
    offsets = offsets[:, (offsets**2).sum(axis=0) <= radius**2]
    if offsets.shape[1] < 8:
        return None
    values, vectors = np.linalg.eigh(np.cov(offsets))
    if values[1] < slimness**2 * max(values[0], 1e-6):
        return None
    along = (float(vectors[0, 1]), float(vectors[1, 1]))
    back, forth = (_reach(depth, row, column, (sign * along[0], sign * along[1]), half_width) for sign in (-1, 1))
    return Site((float(column), float(row)), along, half_width, (back, forth))


def _reach(depth: Plane, row: int, column: int, along: tuple[float, float], half_width: float) -> float:
    """Length of the straight way in a direction well inside a structure of about the same width."""
    steps = np.arange(1.0, max(depth.shape))
    xs = np.round(column + steps * along[0]).astype(int)
    ys = np.round(row + steps * along[1]).astype(int)
    inside = (xs >= 0) & (ys >= 0) & (xs < depth.shape[1]) & (ys < depth.shape[0])
    depths = np.where(inside, depth[np.clip(ys, 0, depth.shape[0] - 1), np.clip(xs, 0, depth.shape[1] - 1)], 0)
    left = np.nonzero((depths < 0.4 * half_width) | (depths > 2.2 * half_width))[0]
    return float(steps[left[0]] - 1) if left.size else float(steps[-1])


def rough_foreground(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """A rough mask (H, W) of the hand: blurred, thresholded, largest part, holes filled.

    Otsu's threshold separates bone from the rest if the soft tissue is dim, the triangle method finds the foot of the
    background's peak; the lower one of the two keeps the soft tissue, unless nearly everything passes it. Good enough
    to paint anomalies into; it does not replace the segmentation step of the preparation.

    Args:
        image: Radiograph of shape (H, W), 8 bit, bones bright.

    Raises:
        XrayError: If the image is not (H, W) 8 bit, or everything in it is equally bright.

    >>> foreground = rough_foreground(np.pad(np.full((40, 20), 200, np.uint8), 30))
    >>> bool(foreground[50, 40]), bool(foreground[0, 0])
    (True, False)
    """
    if image.ndim != 2 or image.dtype != np.uint8:
        raise XrayError(f"A rough foreground needs a grey 8-bit image, not {image.dtype} of shape {image.shape}.")
    if image.min() == image.max():
        raise XrayError("No foreground can be found in an image whose pixels are all equal.")
    side = max(image.shape)
    blurred = np.asarray(cv2.GaussianBlur(image, (0, 0), max(side / 200, 0.8)), np.uint8)
    bright = _bright(blurred)
    size = 2 * max(1, round(side / 120)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    # Opening also removes the bright lines that frame many films.
    opened = np.asarray(cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_OPEN, kernel), np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(opened)
    if len(stats) < 2:
        raise XrayError("No foreground can be found in this image: no region is brighter than the rest.")
    return _without_small_holes(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def _bright(blurred: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The pixels (H, W) above the lowest threshold that does not let most of the picture pass."""
    otsu, _ = cv2.threshold(blurred, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    triangle, _ = cv2.threshold(blurred, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_TRIANGLE)
    for threshold in sorted((otsu, max(triangle, 0.5 * otsu))):
        bright = blurred > threshold
        if bright.mean() < _FULLEST:
            return np.asarray(bright)
    # Even Otsu's parts a bright plate from its black surroundings: look for the hand on the plate alone.
    inner, _ = cv2.threshold(blurred[bright], 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return np.asarray(blurred > inner)


def _without_small_holes(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The region (H, W) with its holes filled, save those as large as the space beside a hand on a framed film."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((~region).astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < _LARGEST_HOLE * region.size
    touching = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    small[touching] = False
    small[0] = False
    return np.asarray(region | small[labels])
