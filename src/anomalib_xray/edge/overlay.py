"""Draw a prediction: the radiograph under its heat map, and below it a footer that says what the numbers mean."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.edge.bundle import NOTICE
from anomalib_xray.edge.runtime import Prediction
from anomalib_xray.io.read import Radiograph, to_unit_interval

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]  # blue, green, red

VERDICTS = {True: "anomalous", False: "not anomalous", None: "no threshold"}
"""How a verdict is called; never "healthy", which no score can say."""

_SHORTEST_SIDE = 640
"""Width in pixels below which the footer would not be legible; smaller pictures are enlarged to it."""
_OPACITY = 0.45
_FADE_IN = 0.5
"""Share of the pixel threshold at which colour begins."""
_BACKDROP: Colour = (24, 22, 20)
_INK: Colour = (240, 240, 240)
_FAINT_INK: Colour = (165, 165, 165)
_CONTOUR: Colour = (255, 255, 255)
_CHIPS: dict[bool | None, Colour] = {True: (40, 70, 225), False: (110, 105, 100), None: (70, 66, 62)}
_FONT = "sans"  # OpenCV's built-in outline font


def draw_overlay(image: Radiograph, prediction: Prediction, name: str) -> Picture:
    """Draws a radiograph with its heat map, and a footer below it.

    The colours run from yellow to red and mean the same on every picture of a model: they begin at half the pixel
    threshold, are fully visible from the threshold on, and end at twice the threshold. A line surrounds what reaches
    it. Without a pixel threshold the map's own largest value ends the scale, and the footer says so.

    Args:
        image: The radiograph, (H, W), uint8 or uint16.
        prediction: What the model said of it.
        name: What the footer calls it, e.g. its path.

    Returns:
        (H', W', 3) uint8 in OpenCV's order BGR; small pictures are enlarged, and the footer adds to the height.
    """
    grey = (to_unit_interval(image) * 255).round().astype(np.uint8)
    factor = max(1.0, _SHORTEST_SIDE / max(grey.shape))
    size = (round(grey.shape[1] * factor), round(grey.shape[0] * factor))
    enlarged = cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC)
    picture: Picture = np.repeat(enlarged[..., np.newaxis], 3, axis=2).astype(np.uint8)
    if prediction.heat_map is not None:
        heat_map = cv2.resize(prediction.heat_map, size, interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)
        picture = _with_heat(picture, heat_map, prediction.pixel_threshold)
    picture = _centred(picture, max(size[0], _SHORTEST_SIDE))
    return np.vstack([picture, _footer(picture.shape[1], prediction, name)])


def _with_heat(anatomy: Picture, heat_map: NDArray[np.float32], threshold: float | None) -> Picture:
    """Blends the map into the picture and surrounds what reaches the threshold."""
    coloured = blend(anatomy, _level(heat_map, threshold))
    if threshold is not None:
        region = (heat_map >= threshold).astype(np.uint8)
        outlines, _ = cv2.findContours(region, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(coloured, outlines, -1, _CONTOUR, max(1, max(anatomy.shape) // 600), cv2.LINE_AA)
    return coloured


def _level(heat_map: NDArray[np.float32], threshold: float | None) -> NDArray[np.float32]:
    """The map in units of its threshold: 0 at the bottom of the scale, 1 at the threshold, 2 where the colours end."""
    # Errors and distances begin at 0; only a map that goes below needs a bottom of its own.
    bottom = 0.0 if threshold is not None and threshold > 0 else float(heat_map.min())
    unit = (float(heat_map.max()) - bottom) / 2 if threshold is None else threshold - bottom
    if unit <= 0:
        return np.where(heat_map >= (np.inf if threshold is None else threshold), np.float32(2), np.float32(0))
    return ((heat_map - bottom) / unit).astype(np.float32)


def blend(picture: Picture, level: NDArray[np.float32]) -> Picture:
    """Lays the colours of a map over a picture.

    Args:
        picture: (H, W, 3) uint8, BGR.
        level: (H, W); colours begin at 0.5, are fully visible from 1 on, and end at 2.

    Returns:
        (H, W, 3).
    """
    steps = (np.clip((level - _FADE_IN) / (2 - _FADE_IN), 0, 1) * 255).astype(np.uint8)
    colours = cv2.applyColorMap(255 - steps, cv2.COLORMAP_AUTUMN)  # reversed: yellow to red
    opacity = _OPACITY * np.clip((level - _FADE_IN) / (1 - _FADE_IN), 0, 1)[..., np.newaxis]
    blended: Picture = (picture * (1 - opacity) + colours * opacity).round().astype(np.uint8)
    return blended


def _centred(picture: Picture, width: int) -> Picture:
    """Widens a picture to a width, the content in the middle."""
    left = (width - picture.shape[1]) // 2
    right = width - picture.shape[1] - left
    return cv2.copyMakeBorder(picture, 0, 0, left, right, cv2.BORDER_CONSTANT, value=_BACKDROP).astype(np.uint8)


def _footer(width: int, prediction: Prediction, name: str) -> Picture:
    """Three lines: name and verdict; score, threshold and the key of the colours; the notice."""
    em = max(15, width // 42)
    margin = em
    footer = np.full((round(em * 6.2), width, 3), _BACKDROP, np.uint8)
    verdict = VERDICTS[prediction.is_anomalous]
    chip = _text_width(verdict, em, bold=True) + em
    left = width - margin - chip
    top, bottom = round(em * 0.6), round(em * 2.1)
    cv2.rectangle(footer, (left, top), (width - margin, bottom), _CHIPS[prediction.is_anomalous], cv2.FILLED)
    write_text(footer, verdict, (left + em // 2, round(em * 1.65)), em, _INK, bold=True)
    write_text(footer, shortened(name, em, left - 2 * margin), (margin, round(em * 1.65)), em, _INK, bold=True)
    threshold = "none" if prediction.threshold is None else f"{prediction.threshold:.4g}"
    write_text(footer, f"score {prediction.score:.4g}    threshold {threshold}", (margin, round(em * 3.6)), em, _INK)
    write_text(footer, NOTICE, (margin, round(em * 5.4)), round(em * 0.85), _FAINT_INK)
    if prediction.heat_map is not None:
        _draw_key(footer, em, prediction.pixel_threshold)
    return footer


def _draw_key(footer: Picture, em: int, threshold: float | None) -> None:
    """Draws the colours at the right: as they look on dark anatomy, with a tick at the threshold."""
    length, right = em * 12, footer.shape[1] - em
    left, top, bottom = right - length, round(em * 2.8), round(em * 3.6)
    bar = np.full((bottom - top, length, 3), 60, np.uint8)
    footer[top:bottom, left:right] = blend(bar, np.tile(np.linspace(0, 2, length, dtype=np.float32), (len(bar), 1)))
    size, line = round(em * 0.72), round(em * 4.5)
    ends = ("smallest", "", "largest") if threshold is None else ("0", f"{threshold:.3g}", f"{2 * threshold:.3g}")
    if threshold is not None and threshold <= 0:
        ends = ("", f"{threshold:.3g}", "")  # such a scale begins at the map's own smallest value
    for text, share in zip(ends, (0.0, 0.5, 1.0), strict=True):
        offset = round(share * (length - _text_width(text, size))) if text else 0
        write_text(footer, text, (left + offset, line), size, _FAINT_INK)
    title = "heat map on this image's own scale" if threshold is None else "heat map, line at its threshold"
    write_text(footer, title, (right - _text_width(title, size), round(em * 5.4)), size, _FAINT_INK)
    if threshold is not None:
        cv2.line(footer, (left + length // 2, top - 2), (left + length // 2, bottom + 2), _CONTOUR, max(1, em // 12))


def write_text(
    picture: Picture, text: str, origin: tuple[int, int], size: int, colour: Colour, *, bold: bool = False
) -> None:
    """Writes text of a size in pixels; its baseline begins at ``origin`` = (column, row)."""
    cv2.putText(picture, text, origin, colour, cv2.FontFace(_FONT), size, 700 if bold else 400)


def _text_width(text: str, size: int, *, bold: bool = False) -> int:
    _, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), cv2.FontFace(_FONT), size, 700 if bold else 400)
    return int(width)


def shortened(name: str, size: int, width: int) -> str:
    """The end of a name that fits, without characters that cannot be shown: the end tells images apart."""
    name = "".join(character if character.isprintable() else "?" for character in name)
    if _text_width(name, size, bold=True) <= width:
        return name
    while name and _text_width(f"...{name}", size, bold=True) > width:
        name = name[1:]
    return f"...{name}"
