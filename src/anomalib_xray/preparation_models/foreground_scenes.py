"""Phantoms and radiographs with drawn masks to learn segmentation from, seen in ever new ways."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import list_radiographs
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.phantom import ARMS, SceneOptions, render_phantom
from anomalib_xray.preparation.step import Mask, Matrix, Place
from anomalib_xray.preparation.steps.foreground import ReadyMasks
from anomalib_xray.preparation.steps.inversion import Inversion
from anomalib_xray.preparation.view import small_view

logger = logging.getLogger(__name__)

SCENES = SceneOptions(prepared=False, landscape=0.2, carrier=0.4, marker=0.9, second_hand=0.15)
ARM_SCENES = replace(ARMS, inverted=0.0)
SIDE = 192
"""Side of the network's input in pixels."""
_STORED_SIDE = 256

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """A phantom or radiograph with its truth, small enough to keep many of them.

    Attributes:
        image: (h, w), bones bright.
        foreground: (h, w).
        carrier_corners: (4, 2), x and y, clockwise from the carrier's top left corner; None without a carrier.
    """

    image: NDArray[np.uint8]
    foreground: Mask
    carrier_corners: Plane | None


def render_scenes(indices: range, seed: int, longest_side: int = _STORED_SIDE) -> Iterator[Scene]:
    """Render those at some indices of a seed's endless series: in turns hands on films and arms on digital plates."""
    for index in indices:
        phantom = render_phantom(np.random.default_rng([seed, index]), (SCENES, ARM_SCENES)[index % 2])
        scale = longest_side / max(phantom.image.shape)
        size = (round(phantom.image.shape[1] * scale), round(phantom.image.shape[0] * scale))
        foreground = cv2.resize(phantom.foreground.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
        corners = phantom.carrier_corners
        yield Scene(
            image=np.asarray(cv2.resize(phantom.image, size, interpolation=cv2.INTER_AREA), np.uint8),
            foreground=np.asarray(foreground),
            carrier_corners=None if corners is None else np.asarray(np.multiply(corners, scale), np.float32),
        )


def read_scenes(images: Path, masks: Path) -> list[Scene]:
    """Read the radiographs below a folder that have a mask below another, as :class:`ReadyMasks` finds them.

    A warning counts the masks that no radiograph has.

    Raises:
        XrayError: A folder is missing, a file cannot be read or a mask has another size, or no radiograph has a mask.
    """
    for folder in (images, masks):
        if not folder.is_dir():
            raise XrayError(f"There is no folder {folder}: give the folders of the radiographs and of their masks.")
    ready, inversion, scenes = ReadyMasks(masks), Inversion(), []
    used: set[Path] = set()
    for path in list_radiographs(images, leave_out=[masks]):
        name = path.relative_to(images).as_posix()
        mask = ready.find(name)
        if mask is None:
            continue
        used.add(mask)
        image = read_radiograph(path)
        shape = (image.shape[0], image.shape[1])
        drawn = ready.mask_at(Place(name, shape, np.eye(3)), shape)
        plan = inversion.plan(image)
        view = small_view(inversion.apply(image, plan) if plan.parameters else image, _STORED_SIDE)
        share = cv2.resize(np.asarray(drawn, np.float32), (view.shape[1], view.shape[0]), interpolation=cv2.INTER_AREA)
        scenes.append(Scene(view, np.asarray(share >= 0.5), None))
    if not scenes:
        raise XrayError(f"No radiograph below {images} has a mask below {masks}: name the mask of a/b.jpg a/b.png.")
    unused = sorted({*list_radiographs(masks, leave_out=[images])} - used)
    if unused:
        logger.warning("%s: masks without a radiograph: %d (first %s).", masks, len(unused), unused[0])
    return scenes


def cropped(scene: Scene) -> Scene:
    """A scene cropped to its carrier, as the pipeline shows it to the segmentation; one without a carrier as it is."""
    if scene.carrier_corners is None:
        return scene
    corners = scene.carrier_corners
    width, height = (round(float(np.linalg.norm(corners[side] - corners[0]))) + 1 for side in (1, 3))
    target = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float32)
    matrix = cv2.getPerspectiveTransform(corners, target)
    image = cv2.warpPerspective(scene.image, matrix, (width, height), flags=cv2.INTER_LINEAR)
    mask = cv2.warpPerspective(scene.foreground.astype(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST)
    return Scene(np.asarray(image, np.uint8), np.asarray(mask > 0), None)


def draw_example(scene: Scene, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Show a scene in a new way: turned, cut, framed, dimmed, on uneven ground, noisy.

    Returns:
        The picture in [0, 1] and its foreground, 0 or 1; each (:data:`SIDE`, :data:`SIDE`), with 0 around the picture.
    """
    if rng.random() < 0.75:
        scene = cropped(scene)
    shape = scene.image.shape
    matrix = _random_view(shape, rng)
    seen = cv2.warpAffine(scene.image, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    foreground = cv2.warpAffine(scene.foreground.astype(np.uint8), matrix, (SIDE, SIDE), flags=cv2.INTER_NEAREST)
    picture = cv2.warpAffine(np.ones(shape, np.uint8), matrix, (SIDE, SIDE), flags=cv2.INTER_NEAREST)
    image = _exposed_anew(np.asarray(seen.astype(np.float32) / 255, np.float32), rng)
    if rng.random() < 0.5:
        image = _on_a_plate(image, rng)
    if rng.random() < 0.4:
        outside = _outside_frame(rng)
        foreground[outside] = 0
        image[outside] = rng.choice([0.0, 1.0, rng.random()]) + 0.03 * rng.standard_normal()
    if rng.random() < 0.12:
        divider = _divider(rng)
        foreground[divider] = 0
        image[divider] = rng.choice([0.0, max(float(image.max()), 0.3)])  # no grey, which could be a finger's
    noise = np.float32(rng.exponential(0.008)) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(np.clip(image + noise, 0, 1) * picture, np.float32), foreground.astype(np.float32)


def _random_view(shape: tuple[int, ...], rng: np.random.Generator) -> Matrix:
    """The map (2, 3) of a picture onto the input: half of the time just fitted, else turned, cut and shifted too."""
    height, width = shape
    scale, degrees, shift = SIDE / max(shape), 0.0, np.zeros(2)
    if rng.random() < 0.6:
        scale *= float(rng.uniform(0.75, 1.5))
        degrees = float(rng.normal(0, 12)) + float(rng.choice([0, 0, 90, 180, 270]))
        shift = rng.normal(0, 0.08 * SIDE, 2)
    turned = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, scale)
    matrix = np.asarray(turned, np.float64)
    matrix[:, 2] += (SIDE - 1) / 2 - np.array([width - 1, height - 1]) / 2 + shift
    if rng.random() < 0.5:
        matrix[0] = -matrix[0]
        matrix[0, 2] += SIDE - 1
    return matrix


def _exposed_anew(image: Plane, rng: np.random.Generator) -> Plane:
    """The picture with another gamma, in a part of the grey levels, on a sloping ground, at times behind a board."""
    image = image ** np.float32(np.exp(rng.uniform(-0.8, 0.8)))
    darkest = float(rng.uniform(0, 0.4)) if rng.random() < 0.5 else 0.0
    contrast = (1 - darkest) * float(rng.uniform(0.12, 1))
    y, x = np.meshgrid(np.linspace(-1, 1, SIDE, dtype=np.float32), np.linspace(-1, 1, SIDE, dtype=np.float32))
    slope = (rng.normal(0, 0.07, 5)[:, None, None] * np.stack([x, y, x * y, x**2, y**2])).sum(axis=0)
    image = np.float32(darkest) + np.float32(contrast) * (image + slope.astype(np.float32))
    if rng.random() < 0.15:  # a board or cloth under a part of the hand
        board = np.cos(angle := rng.uniform(0, 2 * np.pi)) * x + np.sin(angle) * y > rng.uniform(-0.7, 0.7)
        image = image + np.float32(contrast * rng.uniform(0.03, 0.15)) * board
    return np.asarray(image, np.float32)


def _on_a_plate(image: Plane, rng: np.random.Generator) -> Plane:
    """The picture with the stripes of an imaging plate's scanner, darker corners and a glow along a border."""
    y, x = np.meshgrid(np.linspace(-1, 1, SIDE, dtype=np.float32), np.linspace(-1, 1, SIDE, dtype=np.float32))
    span = float(np.percentile(image, 98) - np.percentile(image, 2))
    noise = rng.standard_normal((1, SIDE)).astype(np.float32)
    stripes = np.asarray(cv2.GaussianBlur(noise, (0, 0), float(rng.uniform(0.5, 6))), np.float32)
    stripes = stripes * np.float32(span * float(rng.uniform(0, 0.06)) / max(float(stripes.std()), 1e-6))
    image = image + (stripes if rng.random() < 0.5 else stripes.T)
    image = np.asarray(image * (1 - float(rng.uniform(0, 0.4)) * (x**2 + y**2) / 2), np.float32)
    if rng.random() < 0.5:
        to_border = 1 - np.asarray([x, -x, y, -y][rng.integers(4)])
        glow = np.exp(-to_border / np.float32(rng.uniform(0.02, 0.2)))
        image = image + np.float32(span * rng.uniform(0.05, 1)) * np.asarray(glow, np.float32)
    return np.asarray(image, np.float32)


def _divider(rng: np.random.Generator) -> Mask:
    """Mask of the strip, at times a wedge, that two exposures of a plate leave between them."""
    width, middle = rng.uniform(0.01, 0.06) * SIDE, rng.uniform(0.1, 0.9) * SIDE
    ends = rng.permutation([width, width * rng.uniform(0, 1)])
    slant = rng.normal(0, 0.03 * SIDE)
    corners = [[middle - ends[0], 0], [middle + ends[0], 0], [middle + slant + ends[1], SIDE]]
    corners.append([middle + slant - ends[1], SIDE])
    strip = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(strip, [np.round(corners).astype(np.int32)], 1)
    return np.asarray((strip if rng.random() < 0.5 else strip.T) > 0)


def _outside_frame(rng: np.random.Generator) -> Mask:
    """Mask of the picture that a collimator or the film's border hides: outside of a slightly turned rectangle."""
    centre = (SIDE - 1) / 2 + rng.normal(0, 0.03 * SIDE, 2)
    size = SIDE * rng.uniform(0.75, 1.02, 2)
    corners = cv2.boxPoints((centre.tolist(), size.tolist(), float(rng.choice([0.0, rng.normal(0, 4)]))))
    inside = cv2.fillConvexPoly(np.zeros((SIDE, SIDE), np.uint8), np.rint(corners).astype(np.int32), 1)
    return np.asarray(inside == 0)
