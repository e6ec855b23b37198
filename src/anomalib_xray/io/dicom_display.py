"""The levels that a viewer shows of the stored values of a grey DICOM picture.

Everything is done on a table with an entry for each value that a pixel's cell can hold, whatever the picture's size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.io.dicom_dataset import UnusableError
from anomalib_xray.io.dicom_header import (
    UNREADABLE,
    LookupTable,
    add_note,
    is_filled,
    items_of,
    lookup_table,
    number_of,
    value_of,
)
from anomalib_xray.io.dicom_pixels import Stored
from anomalib_xray.io.radiograph import Radiograph

if TYPE_CHECKING:
    from pydicom import Dataset

_Values = NDArray[np.float64]
_Mask = NDArray[np.bool_]

_SMALLEST_SLOPE = 1e-30
_UNRELATED = 0.4
"""Share of neighbours with different bits; of random bits it is at least half."""
_SMALL_GAP = 0.25
"""Share of the range; the values of a picture lie closer to each other."""
_FEW = 0.05
"""Share of the pixels; lead marks take less, and parts of a body more."""
_OTHER_FUNCTIONS = ("LINEAR_EXACT", "SIGMOID")
OVERLAY_POSITIONS = tuple((group << 16) | 0x0102 for group in range(0x6000, 0x6020, 2))
"""Tags that say in which bit of a pixel an overlay is hidden, as older editions of the standard allowed."""


def displayed(
    stored: Stored, data_set: Dataset, notes: list[str], *, voi: bool = True
) -> tuple[Radiograph, tuple[float, float]]:
    """Take stored grey values (H, W) through the display pipeline, with the VOI transform or without.

    Returns:
        The levels (H, W), uint8 if at most 8 bits are stored, else uint16; and the values, after the modality
        transform, of the darkest and the brightest level of this depth without a VOI transform.
    """
    cells = cast("Radiograph", stored.pixels)
    size = 2 ** (8 * cells.dtype.itemsize)
    counts = cv2.calcHist([cells], [0], None, [size], [0, size]).ravel().astype(np.float64)
    present = counts > 0
    levels, padding, bits = _levels(counts, data_set, stored, notes)
    padding = _checked_padding(levels, counts, padding, data_set, notes)
    shown = present & ~padding
    values = _modality(levels, shown, data_set, notes)
    values, is_windowed = _voi(values, shown, data_set, bits, notes) if voi else (values, False)
    darkest, brightest = float(values[shown].min()), float(values[shown].max())
    is_unchanged = (
        bits == 8
        and not is_windowed
        and 0 <= darkest <= brightest <= 255
        and np.array_equal(values[shown], levels[shown])
    )
    depth = np.uint8 if bits <= 8 else np.uint16
    highest = np.iinfo(depth).max
    ends = (0.0, float(highest)) if is_unchanged else (darkest, brightest)
    if data_set.PhotometricInterpretation == "MONOCHROME1":
        values = darkest + brightest - values
        ends = (darkest + brightest - ends[0], darkest + brightest - ends[1])
    if not is_unchanged:
        values = (values - darkest) * (highest / (brightest - darkest) if brightest > darkest else 0)
    values = np.where(padding, 0, values)
    table: NDArray[np.integer[Any]] = np.rint(np.clip(values, 0, highest)).astype(depth)
    return cast("Radiograph", cv2.LUT(cells, table[np.newaxis])), ends


def _levels(counts: _Values, data_set: Dataset, pixels: Stored, notes: list[str]) -> tuple[_Values, _Mask, int]:
    """The stored value of each content of a cell, whether it is padding, and the bits that are really stored."""
    present, precision = counts > 0, pixels.precision
    cells = np.arange(present.size, dtype=np.int64)
    width = 8 if present.size == 256 else 16
    signed = data_set.PixelRepresentation == 1
    whole = _with_sign(cells, width) if signed else cells
    padding = _is_padding(whole, width, data_set)
    used = cells[present & ~padding]
    stored, shift = data_set.BitsStored, data_set.HighBit + 1 - data_set.BitsStored
    if precision is not None:  # a compressed frame knows its depth itself, and holds nothing above it
        stored = min(stored, precision) if signed else stored
        shift = max(min(data_set.HighBit + 1, precision) - stored, 0)
    if shift:
        # Older writers justify to the left, with zeros or overlays below; others only say so.
        add_note(notes, "HighBit", "repaired")
        if not (used >> stored).any() and (used & (2**shift - 1)).any():
            shift = 0
    taken = (cells >> shift) & (2**stored - 1)
    levels = _with_sign(taken, stored) if signed else taken
    beyond = cells >> (shift + stored) > 0
    if signed:
        beyond &= (cells >> shift) != (levels & (2 ** (width - shift) - 1))
    if beyond[used].any() and not _hides_overlays(data_set, shift + stored):
        add_note(notes, "BitsStored", "repaired")
        if _is_rubbish(((whole >> shift) - levels)[pixels.pixels]):
            pass  # bits that mean nothing are left out
        elif _continues(whole[used], counts[used], beyond[used], 2 ** (stored + shift)):
            levels, stored = whole, width
        else:  # marks that somebody drew into the picture, or single bad pixels
            least = -(2 ** (stored - 1)) if signed else 0
            levels = np.where(beyond, np.clip(whole >> shift, least, least + 2**stored - 1), levels)
    return levels.astype(np.float64), padding | _is_padding(levels, width, data_set), stored


def _is_rubbish(beyond: NDArray[np.int64]) -> bool:
    """Whether bits (H, W) that should be unused are the same everywhere, or follow no picture, and so mean nothing.

    The high bits of values that have more bits than declared are the same in most neighbours.
    """
    pairs = [np.diff(beyond, axis=axis) != 0 for axis in (0, 1)]
    differ, count = sum(int(pair.sum()) for pair in pairs), sum(pair.size for pair in pairs)
    return differ == 0 or differ > _UNRELATED * count


def _continues(values: NDArray[np.int64], counts: _Values, beyond: _Mask, size: int) -> bool:
    """Whether values (N,) beyond a range are those of a picture with more bits, rather than a few apart from it."""
    inner = beyond & (values != values.max()) & (values != values.min())  # the ends may be marks, however large
    gap = np.diff(np.sort(values)).max(initial=0)
    return bool(gap <= size * _SMALL_GAP or counts[inner].sum() > _FEW * counts.sum())


def _with_sign(values: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """Numbers of some bits in two's complement."""
    return values - ((values >> (bits - 1) & 1) << bits)


def _hides_overlays(data_set: Dataset, first: int) -> bool:
    """Whether an overlay is declared in a bit from ``first`` on."""
    positions = [data_set[tag].value for tag in OVERLAY_POSITIONS if tag in data_set]
    return any(isinstance(position, int) and position >= first for position in positions)


def _is_padding(values: NDArray[np.int64], width: int, data_set: Dataset) -> _Mask:
    """Mask of the values that are padding (PS3.3, section C.7.5.1.1.2)."""
    ends = [number_of(data_set, keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return np.zeros(values.shape, np.bool_)
    numbers = [int(end) % 2**width for end in ends if end is not None]
    if data_set.PixelRepresentation == 1:
        numbers = [int(_with_sign(np.array(number), width)) for number in numbers]
    return np.asarray((values >= min(numbers)) & (values <= max(numbers)), np.bool_)


def _checked_padding(levels: _Values, counts: _Values, padding: _Mask, data_set: Dataset, notes: list[str]) -> _Mask:
    """The padding, empty if it would leave nothing of the picture."""
    present = counts > 0
    shown = present & ~padding
    has_range = is_filled(data_set, "PixelPaddingRangeLimit")
    if is_filled(data_set, "PixelPaddingValue") and number_of(data_set, "PixelPaddingValue") is None:
        add_note(notes, "PixelPaddingValue", "ignored")
    if not (present & padding).any():
        return padding & False
    left = levels[shown]
    if not left.size or (has_range and left.min() == left.max() and counts[padding].sum() > counts[shown].sum()):
        add_note(notes, "PixelPaddingRangeLimit" if has_range else "PixelPaddingValue", "ignored")
        return padding & False
    if has_range and counts[padding].sum() > counts[shown].sum():
        add_note(notes, "PixelPaddingRangeLimit", "applied")
    return padding


def _modality(levels: _Values, shown: _Mask, data_set: Dataset, notes: list[str]) -> _Values:
    """The modality transform (PS3.3, section C.11.1): a lookup table, or a rescaling."""
    items = items_of(data_set, "ModalityLUTSequence")
    if items and len(items[0]):
        return _modality_table(items[0], levels, shown, data_set, notes)
    if items:
        add_note(notes, "ModalityLUTSequence", "ignored")
    slope, intercept = number_of(data_set, "RescaleSlope"), number_of(data_set, "RescaleIntercept")
    if "RescaleSlope" not in data_set and "RescaleIntercept" not in data_set:
        return levels
    if slope is None or abs(slope) < _SMALLEST_SLOPE:
        slope = None
        add_note(notes, "RescaleSlope", "ignored")
    if intercept is None:
        add_note(notes, "RescaleIntercept", "ignored")
    values = levels * (slope or 1.0) + (intercept or 0.0)
    if not np.isfinite(values).all() or not np.isfinite(np.ptp(values)):
        raise UnusableError("is damaged: its RescaleSlope and RescaleIntercept lead to infinity; export it again.")
    if np.ptp(values[shown]) == 0 < np.ptp(levels[shown]):  # an intercept in which all digits of the pixels are lost
        add_note(notes, "RescaleIntercept", "ignored")
        return levels * (slope or 1.0)
    return values


def _modality_table(item: Dataset, levels: _Values, shown: _Mask, data_set: Dataset, notes: list[str]) -> _Values:
    table = lookup_table(item, "LUT", little=data_set.original_encoding[1] is not False)
    if table is None:
        raise UnusableError(
            "has a ModalityLUTSequence whose LUTDescriptor and LUTData do not fit each other; export it again."
        )
    values = table.apply(levels, signed=data_set.PixelRepresentation == 1)
    if np.ptp(values[shown]) == 0 < np.ptp(levels[shown]):
        raise UnusableError("has a ModalityLUTSequence that makes all its pixels the same; export it again.")
    if number_of(data_set, "RescaleSlope") not in (None, 1.0):
        add_note(notes, "RescaleSlope", "ignored")  # the standard allows either a table or a rescaling
    return values


def _voi(values: _Values, shown: _Mask, data_set: Dataset, bits: int, notes: list[str]) -> tuple[_Values, bool]:
    """The first usable VOI transform (PS3.3, section C.11.2), and whether it is a window that does something.

    A table or a window is a hint for the display: one that is unusable, or that shows nothing, is left out.
    """
    for item in items_of(data_set, "VOILUTSequence"):
        table = lookup_table(item, "LUT", little=data_set.original_encoding[1] is not False)
        if table is not None and _shows(looked := table.apply(values, signed=bool(values.min() < 0)), values, shown):
            return looked, False
        add_note(notes, "VOILUTSequence", "ignored")
    if not (is_filled(data_set, "WindowCenter") or is_filled(data_set, "WindowWidth")):
        return values, False
    function = window_function(data_set)
    if function not in ("LINEAR", *_OTHER_FUNCTIONS):
        add_note(notes, "VOILUTFunction", "ignored")
    windows = _windows(data_set)
    for centre, width in windows:
        if _is_usable(centre, width, function) and _shows(
            windowed := _windowed(values, centre, width, function), values, shown
        ):
            if (centre, width) != windows[0]:
                add_note(notes, "WindowWidth", "ignored")
            is_identity = function not in _OTHER_FUNCTIONS and (centre, width) == (2 ** (bits - 1), 2**bits)
            return windowed, not is_identity
    add_note(notes, "WindowWidth", "ignored")
    return values, False


def window_function(data_set: Dataset) -> str:
    """The VOI LUT Function, in capitals; linear if it is empty or missing (PS3.3, section C.11.2.1.3)."""
    return str(value_of(data_set, "VOILUTFunction") or "LINEAR").strip().upper()


def usable_windows(data_set: Dataset) -> list[tuple[float, float]]:
    """Centres and widths of the windows that can be used."""
    function = window_function(data_set)
    return [window for window in _windows(data_set) if _is_usable(*window, function)]


def _windows(data_set: Dataset) -> list[tuple[float, float]]:
    """All centres and widths, NaN for what is not a number."""
    try:
        both = [data_set.get(keyword) for keyword in ("WindowCenter", "WindowWidth")]
        centres, widths = ([value] if np.isscalar(value) else list(value or ()) for value in both)
    except UNREADABLE:
        return []
    return [(_number(centre), _number(width)) for centre, width in zip(centres, widths, strict=False)]


def _number(value: Any) -> float:
    try:
        return float(value)
    except (ValueError, TypeError, OverflowError):
        return float("nan")


def _is_usable(centre: float, width: float, function: str) -> bool:
    narrow = width <= 0 if function in _OTHER_FUNCTIONS else width < 1
    return bool(np.isfinite(centre) and np.isfinite(width)) and not narrow


def _windowed(values: _Values, centre: float, width: float, function: str) -> _Values:
    """Values through a window, up to a linear change that the stretching undoes."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return np.clip(values, centre - width / 2, centre + width / 2)
    if width == 1:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def _shows(after: _Values, before: _Values, shown: _Mask) -> bool:
    """Whether anything is left to see of a picture in which there was something."""
    return bool(np.isfinite(after[shown]).all() and (np.ptp(after[shown]) > 0 or np.ptp(before[shown]) == 0))


def palette_grey(stored: Stored, data_set: Dataset) -> Radiograph:
    """Look up the colours of a palette, as weighted grey (ITU-R BT.601) of the depth of its entries."""
    cells = cast("Radiograph", stored.pixels)
    levels = np.arange(2 ** (8 * cells.dtype.itemsize), dtype=np.float64)
    tables: list[LookupTable] = []
    for colour in ("Red", "Green", "Blue"):
        prefix = f"{colour}PaletteColorLookupTable"
        table = lookup_table(data_set, prefix, little=data_set.original_encoding[1] is not False)
        if table is None:
            raise UnusableError(f"has no usable palette, by {prefix}Descriptor and {prefix}Data; export it as PNG.")
        tables.append(table)
    depth = np.uint8 if max(table.depth for table in tables) <= 8 else np.uint16
    colours: NDArray[np.integer[Any]] = np.dstack([table.apply(levels, signed=False) for table in tables]).astype(depth)
    return cast("Radiograph", cv2.LUT(cells, cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY)))
