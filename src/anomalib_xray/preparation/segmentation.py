"""The foreground without a network, and what is done with a mask: its parts, holes and outline."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.preparation.step import Mask
from anomalib_xray.preparation.view import VIEW_SIDE

_GRID_SIDE = 96  # longest side of the grid on which the background is fitted
_ORDER = 2
_ROUNDS = 20
_FRAME_SHARE = 0.12  # of a side that a film's frame takes at most
_GLOW = 0.6  # share of a line that a film's glowing border covers
_GLOW_BEYOND_HAND = 0.2  # the same, beyond the share that the hand covers further in
_OTSU_SHARE = 0.5  # of Otsu's threshold, on the square root: the skin's outline is much fainter than the bones
_NOISE = 2.5  # standard deviations of the background that are no foreground

_COMPARABLE = 0.35  # of the first hand's weight that a second hand has at least
_SMALL_PART = 0.1  # of the largest part's area: what is smaller is no limb
_HOLE = 0.003  # of the mask's area: smaller holes are gaps between fingers, not worth an outline
_SPECK = 32  # pixels: holes that are smaller are always filled
_OPINION = 3.0  # the logit that standing out from the background is worth
_OUTLINE = 7  # pixels: narrower regions of doubt are outlines
_BAND = 3  # pixels on each side in which an outline is searched; networks see a picture in less than half the size
_SKIN = 0.12  # share of the step from the background to the limb's inside at which skin begins
_NEAR = 6  # pixels, standard deviation of the surroundings whose levels are compared
_RIM = 9  # pixels, twice the width of the rims inside and outside of an outline that are compared
_LEAST_STEP = 3  # grey levels: with less there is no outline to see
_RECTANGLE = (25, 25, 400, 290)  # x, y, width and height on a lying picture of 512 pixels
_SMALLEST_SIDE = 16  # below that there are too few pixels for two mixtures of five Gaussians


def flat_foreground(view: NDArray[np.uint8]) -> Mask:
    """Find the hands (h, w) by fitting the background around them; all False if nothing stands out.

    A polynomial of low order is fitted to the grey levels, again and again without the pixels that rise above it. The
    rest above it is opened and thresholded by Otsu's method on its square root, at half the threshold. Of the parts
    found, the large and central ones are kept, with their holes filled. Tuned for a longest side of 512.
    """
    top, bottom, left, right = _within_frame(view)
    found = np.zeros(view.shape, np.bool_)
    inner = cv2.GaussianBlur(view[top:bottom, left:right].astype(np.float32), (0, 0), 1)
    background, noise = _background(np.asarray(inner, np.float32))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    raised = cv2.morphologyEx(np.maximum(inner - background, 0), cv2.MORPH_OPEN, kernel)
    highest = float(np.percentile(raised, 99.5))
    if highest <= _NOISE * noise:
        return found
    root = np.sqrt(np.minimum(raised / highest, 1)) * 255
    otsu, _ = cv2.threshold(root.astype(np.uint8), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    least = max((_OTSU_SHARE * otsu / 255) ** 2 * highest, _NOISE * noise)
    found[top:bottom, left:right] = fill_holes(central_parts(_without_strips(np.asarray(raised > least))))
    return found


def _within_frame(view: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Rows top to bottom and columns left to right that lie inside of a film's bright or black frame."""
    top, bottom = _frame_width(view), _frame_width(view[::-1])
    left, right = _frame_width(view.T), _frame_width(view.T[::-1])
    return top, view.shape[0] - bottom, left, view.shape[1] - right


def _frame_width(lines: NDArray[np.uint8]) -> int:
    """Number of the first lines (n, length) that belong to a frame.

    A hand that leaves the picture covers a part of a line only; a frame makes nearly a whole one brighter than the
    background further in, or darker.
    """
    outermost = int(len(lines) * _FRAME_SHARE)
    if outermost == 0:
        return 0
    darkest, dim, bright = np.percentile(lines[: 2 * outermost], (10, 25, 85), axis=1)
    background = np.median(dim[outermost:])
    framing = (darkest > 1.3 * background + 8) | (bright < 0.6 * background - 4)
    return _last(framing[:outermost])


def _background(inner: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """The background (h, w) as a polynomial, and the standard deviation of grey levels around it."""
    height, width = inner.shape
    scale = min(_GRID_SIDE / max(height, width), 1)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    grid = cv2.resize(inner, size, interpolation=cv2.INTER_AREA).astype(np.float64)
    y, x = np.meshgrid(np.linspace(-1, 1, size[1]), np.linspace(-1, 1, size[0]), indexing="ij")
    terms = np.stack([x**i * y**j for i in range(_ORDER + 1) for j in range(_ORDER + 1 - i)], axis=-1)
    design, levels = terms.reshape(-1, terms.shape[-1]), grid.ravel()
    kept = levels <= np.quantile(levels, 0.6)
    for _ in range(_ROUNDS):
        weights = np.linalg.lstsq(design[kept], levels[kept], rcond=None)[0]
        rest = levels - design @ weights
        spread = 1.4826 * float(np.median(np.abs(rest[kept] - np.median(rest[kept])))) + 0.5
        flat = (rest < 2.5 * spread) & (rest > -5 * spread)
        if flat.mean() < 0.1 or np.array_equal(flat, kept):
            break
        kept = flat
    fitted = (terms @ weights).astype(np.float32)
    return np.asarray(cv2.resize(fitted, (width, height), interpolation=cv2.INTER_LINEAR), np.float32), spread


def _without_strips(raised: Mask) -> Mask:
    """The raised pixels (h, w) without the glow that runs along a border of the film and into the hand."""
    cleaned = raised.copy()
    # Each view begins at another border, and changes the mask itself.
    for lines in (cleaned, cleaned[::-1], cleaned.T, cleaned.T[::-1]):
        width = _glow_width(lines)
        lines[:width] &= lines[width]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    opened = cv2.morphologyEx(
        cleaned.astype(np.uint8), cv2.MORPH_OPEN, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    return np.asarray(opened > 0)


def _glow_width(lines: Mask) -> int:
    """Number of the first lines (n, length) that are covered by much more than the hand covers further in."""
    outermost = int(len(lines) * _FRAME_SHARE)
    if outermost == 0:
        return 0
    covered = lines[: 2 * outermost].mean(axis=1)
    glowing = covered[:outermost] > max(_GLOW, np.median(covered[outermost:]) + _GLOW_BEYOND_HAND)
    return _last(glowing)


def _last(true: NDArray[np.bool_]) -> int:
    """Number of entries (n,) up to the last true one."""
    return int(np.flatnonzero(true)[-1]) + 1 if true.any() else 0


def central_parts(mask: Mask) -> Mask:
    """The hands of a mask (h, w): its largest and most central part, and another one that comes close to it.

    A part weighs its area times exp(-3 d²), with d the distance of its centroid from the picture's centre, in widths
    and heights.
    """
    count, labels, stats, centroids = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return mask
    height, width = mask.shape
    away = (((centroids[1:] + 0.5) / (width, height) - 0.5) ** 2).sum(axis=1)
    weight = stats[1:, cv2.CC_STAT_AREA] * np.exp(-3 * away)
    return np.asarray(np.isin(labels, 1 + np.flatnonzero(weight >= _COMPARABLE * weight.max())))


def limbs(logits: NDArray[np.float32]) -> Mask:
    """The limbs among logits (h, w) of being foreground: the large parts of at least 0, wherever they lie, unholed.

    A part is large if it has at least a tenth of the largest one's area.

    >>> limbs(np.array([[1.0] * 15 + [-1, 1, -1, 1, 1]], np.float32)).sum()
    np.int64(17)
    """
    mask = logits >= 0
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count > 1:
        areas = stats[1:, cv2.CC_STAT_AREA]
        mask = np.isin(labels, 1 + np.flatnonzero(areas >= _SMALL_PART * areas.max()))
    return fill_holes(np.asarray(mask))


def agreed(logits: NDArray[np.float32], flat: Mask, view: NDArray[np.uint8]) -> tuple[Mask, float]:
    """Bring a network's logits (h, w) and the parts that stand out from the background (h, w) together.

    What stands out, or does not, counts as much as a logit of 3. So a network that is sure decides alone, as about
    white strips, and the grey levels decide what it is unsure of: outlines, and plates of a kind that it never saw.
    A part without a step at its outline in the view (h, w), where another has one, is a patch of the plate.

    Returns:
        The mask (h, w), and the doubt about it: the share of the mask, up to 1, that a little less evidence would
        change, outlines apart.
    """
    both = logits + np.where(flat, _OPINION, -_OPINION).astype(np.float32)
    mask = _with_outline(limbs(both), view)
    unsure = (np.abs(both) < _OPINION).astype(np.uint8)
    regions = cv2.morphologyEx(unsure, cv2.MORPH_OPEN, np.ones((_OUTLINE, _OUTLINE), np.uint8))
    return mask, min(float(regions.sum()) / max(int(mask.sum()), 1), 1.0)


def _with_outline(mask: Mask, view: NDArray[np.uint8]) -> Mask:
    """The parts of a mask (h, w) that are brighter than what lies around them; all if none is."""
    count, labels = cv2.connectedComponents(mask.astype(np.uint8))
    if count <= 2:
        return mask
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_RIM, _RIM))
    bright = []
    for part in range(1, count):
        inside = (labels == part).astype(np.uint8)
        rim = (inside > 0) & (cv2.erode(inside, kernel, borderValue=1) == 0)
        around = (cv2.dilate(inside, kernel) > 0) & ~mask
        if rim.any() and around.any() and np.median(view[rim]) >= np.median(view[around]) + _LEAST_STEP:
            bright.append(part)
    return np.isin(labels, bright) if bright else mask


def snapped(mask: Mask, view: NDArray[np.uint8]) -> Mask:
    """Move the outline of a mask (h, w) onto the skin in its view (h, w), by up to 3 pixels.

    Near the outline a pixel belongs to the mask if it is brighter than the background nearby by an eighth of the step
    to the inside: skin is thin at its outline. Where there is no step, the outline stays.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _BAND + 1, 2 * _BAND + 1))
    plane = mask.astype(np.uint8)
    # What lies beyond the picture is neither: a limb that leaves it keeps its end.
    outer = cv2.dilate(plane, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    inner = cv2.erode(plane, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0
    levels = np.asarray(cv2.GaussianBlur(view.astype(np.float32), (0, 0), 0.8), np.float32)
    inside, outside = _mean_nearby(levels, inner), _mean_nearby(levels, ~outer)
    step = inside - outside
    moved = np.where(step > _LEAST_STEP, levels > outside + _SKIN * step, mask)
    return np.asarray(np.where(outer & ~inner, moved, mask))


def _mean_nearby(levels: NDArray[np.float32], chosen: Mask) -> NDArray[np.float32]:
    """The mean of the chosen levels (h, w) around each pixel; 0 far from all."""
    weights = chosen.astype(np.float32)
    total = cv2.GaussianBlur(levels * weights, (0, 0), _NEAR)
    return np.asarray(total / np.maximum(cv2.GaussianBlur(weights, (0, 0), _NEAR), 1e-4), np.float32)


def fill_holes(mask: Mask) -> Mask:
    """Add the holes (h, w) that are small; through larger ones, as of thumb and finger in a ring, the plate is seen."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        np.pad(1 - mask.astype(np.uint8), 1, constant_values=1), connectivity=4
    )
    small = stats[:, cv2.CC_STAT_AREA] < max(_HOLE * int(mask.sum()), _SPECK)
    small[[0, labels[0, 0]]] = False  # the mask itself, and what surrounds it
    return np.asarray(mask | small[labels[1:-1, 1:-1]])


def grabcut_foreground(view: NDArray[np.uint8], iterations: int = 5) -> Mask:
    """GrabCut (Rother et al., SIGGRAPH 2004) that starts with everything outside of a rectangle as background.

    The published rectangle is x 25, y 25, width 400 and height 290 for a longest side of 512; it is scaled with the
    picture, and turned with upright ones. Kept for comparison: it often loses the hand. Holes are filled; nothing is
    found in pictures that are tiny or of one grey level.
    """
    if min(view.shape) < _SMALLEST_SIDE or view.min() == view.max():
        return np.zeros(view.shape, np.bool_)
    labels = np.zeros(view.shape, np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    # GrabCut starts with k-means from random centres, drawn from OpenCV's one generator, which has no other handle.
    cv2.setRNGSeed(0)
    colour = cv2.cvtColor(view, cv2.COLOR_GRAY2BGR)
    cv2.grabCut(colour, labels, _rectangle(view.shape), *models, iterations, cv2.GC_INIT_WITH_RECT)
    return fill_holes(np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)))


def _rectangle(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The published rectangle x, y, width, height on a view of this shape, with background left on all sides."""
    height, width = shape
    x, y, wide, tall = np.multiply(_RECTANGLE, max(shape) / VIEW_SIDE).round().astype(int).tolist()
    if height > width:
        wide, tall = tall, wide
    x, y = max(x, 1), max(y, 1)
    return x, y, min(wide, width - x - 1), min(tall, height - y - 1)
