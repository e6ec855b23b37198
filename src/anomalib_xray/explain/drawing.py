"""Pictures of explanations: two views of a radiograph side by side above a footer."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anomalib_xray import NOTICE
from anomalib_xray.edge.graph import CENTRED, to_picture
from anomalib_xray.edge.overlay import Picture, blend, shortened, write_text
from anomalib_xray.edge.table import printable
from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph, to_unit_interval

if TYPE_CHECKING:
    from pathlib import Path

    from anomalib.models import AnomalibModule

SIDE = 560
"""Longer side in pixels of each of the two views."""

LARGEST = 2.0
"""Level at which the colours end, see :func:`~anomalib_xray.edge.overlay.blend`."""

_GAP, _LINE, _LETTERS = 12, 24, 15
_INK, _FAINT_INK, _OUTLINE = (240, 240, 240), (165, 165, 165), (255, 255, 0)


def draw_explanation(
    radiograph: Radiograph,
    level: NDArray[np.float32],
    mask: NDArray[np.bool_] | None,
    title: str,
    below: str,
    padding: str = CENTRED,
) -> Picture:
    """Draws a radiograph, and beside it the same under its heat map.

    Args:
        radiograph: (H, W), uint8 or uint16.
        level: The map in levels of :func:`~anomalib_xray.edge.overlay.blend`, (S, S) of the padded square.
        mask: The anomaly, (H, W), drawn as a line; none if not known.
        title: Name of the image in the footer.
        below: Words about the heat map in the footer.
        padding: Place of the radiograph in the square; see :func:`~anomalib_xray.edge.graph.to_picture`.

    Returns:
        (H', W', 3) uint8 in OpenCV's order BGR.

    Example:
        >>> radiograph, level = np.full((90, 60), 99, np.uint8), np.ones((64, 64), np.float32)
        >>> draw_explanation(radiograph, level, None, "hand.png", "a map").shape
        (644, 1132, 3)
    """
    grey = enlarged(radiograph)
    views = [grey, blend(grey, to_picture(level, grey.shape[0], grey.shape[1], padding))]
    if mask is not None:
        region = cv2.resize(mask.astype(np.uint8), grey.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(region, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        for view in views:
            cv2.drawContours(view, outlines, -1, _OUTLINE, 1, cv2.LINE_AA)
    shown = "the radiograph" if mask is None else "the radiograph, a line around the anomaly"
    return side_by_side((views[0], views[1]), title, (shown, below))


def enlarged(radiograph: Radiograph) -> Picture:
    """A radiograph (H, W) in grey with its longer side made :data:`SIDE`, (H', W', 3) uint8."""
    factor = SIDE / max(radiograph.shape)
    size = tuple(max(1, round(length * factor)) for length in radiograph.shape[::-1])
    grey = (to_unit_interval(radiograph) * 255).round().astype(np.uint8)
    resized = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    return np.repeat(resized[..., np.newaxis], 3, axis=2).astype(np.uint8)


def side_by_side(views: tuple[Picture, Picture], title: str, below: tuple[str, str]) -> Picture:
    """Puts two views of one size beside each other, above a footer of three lines: title, captions, the notice."""
    margin = SIDE - views[0].shape[1]  # the footer needs the whole width
    left, right = (
        cv2.copyMakeBorder(view, 0, 0, margin // 2, margin - margin // 2, cv2.BORDER_CONSTANT) for view in views
    )
    both = np.hstack([left, np.zeros((len(left), _GAP, 3), np.uint8), right])
    footer = np.zeros((round(3.5 * _LINE), both.shape[1], 3), np.uint8)
    write_text(footer, shortened(title, _LETTERS, both.shape[1] - 2 * _GAP), (_GAP, _LINE), _LETTERS, _INK, bold=True)
    for column, text in zip((0, SIDE), below, strict=True):
        write_text(footer, text, (_GAP + column, 2 * _LINE), _LETTERS, _INK)
    write_text(footer, NOTICE, (_GAP, 3 * _LINE), _LETTERS - 2, _FAINT_INK)
    return np.vstack([both, footer])


@torch.no_grad()
def pre_processed(model: AnomalibModule, radiograph: Radiograph) -> Tensor:
    """A radiograph as the model's network sees it, ``(1, 3, S, S)``."""
    batch = torch.from_numpy(to_unit_interval(radiograph)).repeat(1, 3, 1, 1)
    prepared: Tensor = model.pre_processor(batch) if model.pre_processor else batch
    return prepared


def report(path: Path, error: XrayError) -> str:
    """Prints why an image could not be used; returns the reason."""
    shown, reason = printable(path), printable(error)
    print(f"error: {reason if shown in reason else f'{shown}: {reason}'}", file=sys.stderr)
    return reason
