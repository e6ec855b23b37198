"""Draw a prediction: the radiograph under its heat map, above a footer that explains the numbers."""

from __future__ import annotations

from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray import NOTICE
from anomalib_xray.edge.result import NOT_COMPARABLE, Result
from anomalib_xray.io.read import Radiograph, to_unit_interval

Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]  # blue, green, red

_SHORTEST_SIDE = 640
"""Smallest width in pixels with a legible footer; smaller pictures are enlarged to it."""
_OPACITY = 0.45
_BAND = 64
"""Rows that are blended at once; detectors have thousands, and a small device little memory."""
_FADE_IN = 0.5
"""Share of the pixel threshold at which colour begins."""
_BACKDROP: Colour = (24, 22, 20)
_INK: Colour = (240, 240, 240)
_FAINT_INK: Colour = (165, 165, 165)
_CONTOUR: Colour = (255, 255, 255)
_FRAME: Colour = (200, 150, 90)
_NEARLY_ALL = 0.95
_CHIPS: dict[bool | None, Colour] = {True: (40, 70, 225), False: (110, 105, 100), None: (70, 66, 62)}
_FONT = "sans"  # OpenCV's built-in outline font


def draw_overlay(image: Radiograph, result: Result, name: str) -> Picture:
    """Draws a radiograph with its heat map, and a footer below it.

    The colours run from yellow to red and mean the same on every picture of a model: they begin at half the pixel
    threshold, are fully visible from the threshold on, and end at twice the threshold. A line surrounds what reaches
    it. Without a pixel threshold the map's own largest value ends the scale, and the footer says so. A frame surrounds
    each view, where the preparation left out some of the picture.

    Args:
        image: The radiograph, (H, W), uint8 or uint16.
        result: The result of a bundle for it.
        name: Its name in the footer, e.g. its path.

    Returns:
        (H', W', 3) uint8 in OpenCV's order BGR; small pictures are enlarged, and the footer adds to the height.

    Example:
        >>> result = Result("Cae", {"mse": 0.1}, {"mse": None}, "mse", 0.1, 0.2, False, None, None, None, [], [])
        >>> draw_overlay(np.full((320, 160), 90, np.uint8), result, "hand.png").shape
        (757, 640, 3)
    """
    factor = enlargement(image)
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    frames = left_out(result, image.shape)
    margin = max(_SHORTEST_SIDE - size[0], 0)
    footer = _footer(size[0] + margin, result, name, framed=bool(frames))
    # Everything is drawn where it stays: two copies of a detector's picture in colour are more than its model needs.
    drawn = np.full((size[1] + len(footer), size[0] + margin, 3), _BACKDROP, np.uint8)
    drawn[size[1] :] = footer
    picture = drawn[: size[1], margin // 2 : margin // 2 + size[0]]
    picture[:] = _resized(_grey(image), size, cv2.INTER_CUBIC)[..., np.newaxis]
    if result.heat_map is not None:
        heat_map = _resized(result.heat_map, size, cv2.INTER_LINEAR).astype(np.float32, copy=False)
        _draw_heat(picture, heat_map, result.pixel_threshold)
    if frames:
        # Half-pixel shifts of the enlargement do not matter here.
        lines = [(frame * factor).round().astype(np.int32) for frame in frames]
        cv2.polylines(picture, lines, isClosed=True, color=_FRAME, thickness=_thickness(picture), lineType=cv2.LINE_AA)
    return drawn


def enlargement(image: Radiograph) -> float:
    """Pixels of an overlay per pixel of its radiograph, along a side."""
    return float(max(1.0, _SHORTEST_SIDE / max(image.shape)))


def _grey(image: Radiograph) -> NDArray[np.uint8]:
    """The radiograph (H, W) in 256 levels, looked up level by level, which takes less memory than computing each."""
    brightest = int(image.max(initial=0))
    levels = np.minimum(np.arange(np.iinfo(image.dtype).max + 1), brightest)[np.newaxis]
    table = (to_unit_interval(cast("Radiograph", levels.astype(image.dtype))) * 255).round().astype(np.uint8)
    return np.asarray(cv2.LUT(image, table), np.uint8)


def _resized(image: NDArray[Any], size: tuple[int, int], interpolation: int) -> NDArray[Any]:
    """The image with another width and height; itself where it has them."""
    if image.shape == (size[1], size[0]):
        return image
    return np.asarray(cv2.resize(image, size, interpolation=interpolation))


def _draw_heat(anatomy: Picture, heat_map: NDArray[np.float32], threshold: float | None) -> None:
    """Blends the map into the picture and surrounds what reaches the threshold."""
    # Errors and distances begin at 0; only a map that goes below needs a bottom of its own.
    bottom = 0.0 if threshold is not None and threshold > 0 else float(heat_map.min())
    unit = (float(heat_map.max()) - bottom) / 2 if threshold is None else threshold - bottom
    for top in range(0, len(anatomy), _BAND):
        band = slice(top, top + _BAND)
        if unit > 0:
            level = ((heat_map[band] - bottom) / unit).astype(np.float32)
        else:
            level = np.where(
                heat_map[band] >= (np.inf if threshold is None else threshold), np.float32(2), np.float32(0)
            )
        anatomy[band] = blend(anatomy[band], level)
    if threshold is not None:
        region = (heat_map >= threshold).view(np.uint8)
        outlines, _ = cv2.findContours(region, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(anatomy, outlines, -1, _CONTOUR, _thickness(anatomy), cv2.LINE_AA)


def left_out(result: Result, shape: tuple[int, ...]) -> list[NDArray[np.float64]]:
    """Corners (4, 2) of each view on the radiograph, x and y; empty where they leave out a narrow rim at most."""
    outlines = [view.outline for view in result.views if view.outline is not None]
    covered = np.zeros(shape, np.uint8)
    for outline in outlines:
        cv2.fillPoly(covered, [outline.round().astype(np.int32)], 1)
    return outlines if outlines and covered.mean() < _NEARLY_ALL else []


def _thickness(picture: Picture) -> int:
    return max(1, int(max(picture.shape)) // 600)


def blend(picture: Picture, level: NDArray[np.float32]) -> Picture:
    """Lays the colours of a map (H, W) over a picture: they begin at 0.5, are fully visible from 1 on, and end at 2."""
    steps = (np.clip((level - _FADE_IN) / (2 - _FADE_IN), 0, 1) * 255).astype(np.uint8)
    colours = cv2.applyColorMap(255 - steps, cv2.COLORMAP_AUTUMN)  # reversed: yellow to red
    opacity = _OPACITY * np.clip((level - _FADE_IN) / (1 - _FADE_IN), 0, 1)[..., np.newaxis]
    blended: Picture = (picture * (1 - opacity) + colours * opacity).round().astype(np.uint8)
    return blended


def _footer(width: int, result: Result, name: str, *, framed: bool) -> Picture:
    """Name and verdict; model and score; its value beside the key; the notice; reasons against comparing."""
    em = max(15, width // 42)
    footer = np.full((round(em * (7.8 + 1.5 * len(result.not_comparable))), width, 3), _BACKDROP, np.uint8)
    verdict = NOT_COMPARABLE if result.not_comparable else result.verdict
    chip = _text_width(verdict, em, bold=True) + em
    left, beside_key = width - em - chip, width - 15 * em
    top, bottom = round(em * 0.6), round(em * 2.1)
    cv2.rectangle(footer, (left, top), (width - em, bottom), _CHIPS[result.is_anomalous], cv2.FILLED)
    write_text(footer, verdict, (left + em // 2, round(em * 1.65)), em, _INK, bold=True)
    write_text(footer, shortened(name, em, left - 2 * em), (em, round(em * 1.65)), em, _INK, bold=True)
    model = shortened(f"{result.model}, {result.score}", em, beside_key)
    write_text(footer, model, (em, round(em * 3.5)), em, _FAINT_INK)
    threshold = "none" if result.threshold is None else f"{result.threshold:.4g}"
    percentile = "" if result.percentile is None else f"    percentile {result.percentile:.3g}"
    numbers = f"score {result.value:.4g}    threshold {threshold}{percentile}"
    size = min(em, em * beside_key // _text_width(numbers, em))
    write_text(footer, numbers, (em, round(em * 5.2)), size, _INK)
    write_text(footer, NOTICE, (em, round(em * 7)), round(em * 0.85), _FAINT_INK)
    for number, reason in enumerate(result.not_comparable, 1):
        size = min(em, em * (width - 2 * em) // _text_width(reason, em))
        write_text(footer, reason, (em, round(em * (7 + 1.5 * number))), size, _INK)
    if result.heat_map is not None:
        _draw_key(footer, em, result.pixel_threshold, framed=framed)
    return footer


def _draw_key(footer: Picture, em: int, threshold: float | None, *, framed: bool) -> None:
    """Draws the colours at the right, as on dark anatomy, with a tick at the threshold."""
    length, right = em * 12, footer.shape[1] - em
    left, top, bottom = right - length, round(em * 3.2), round(em * 4)
    bar = np.full((bottom - top, length, 3), 60, np.uint8)
    footer[top:bottom, left:right] = blend(bar, np.tile(np.linspace(0, 2, length, dtype=np.float32), (len(bar), 1)))
    size, line = round(em * 0.72), round(em * 4.9)
    ends = ("smallest", "", "largest") if threshold is None else ("0", f"{threshold:.3g}", f"{2 * threshold:.3g}")
    if threshold is not None and threshold <= 0:
        ends = ("", f"{threshold:.3g}", "")  # such a scale begins at the map's own smallest value
    for text, share in zip(ends, (0.0, 0.5, 1.0), strict=True):
        offset = round(share * (length - _text_width(text, size))) if text else 0
        write_text(footer, text, (left + offset, line), size, _FAINT_INK)
    title = "heat map on this image's own scale" if threshold is None else "heat map, line at its threshold"
    if framed:
        title = f"blue frame: what was looked at; {title}"
    write_text(footer, title, (right - _text_width(title, size), round(em * 7)), size, _FAINT_INK)
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
    """The end of a name that fits, which tells images apart, without characters that cannot be shown."""
    name = "".join(character if character.isprintable() else "?" for character in name)
    if _text_width(name, size, bold=True) <= width:
        return name
    while name and _text_width(f"...{name}", size, bold=True) > width:
        name = name[1:]
    return f"...{name}"
