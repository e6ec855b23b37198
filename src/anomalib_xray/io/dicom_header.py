"""Checked values and lookup tables of a DICOM header."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom_dataset import UnusableError
from anomalib_xray.io.dicom_pixels import NO_PICTURE
from anomalib_xray.io.formats import check_size

if TYPE_CHECKING:
    from pydicom import Dataset

_COLOURS = {
    1: ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"),
    3: ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"),
}
"""Photometric interpretations by samples per pixel."""
FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
"""Sequences of enhanced objects for what others have among their plain elements."""
_IN_GROUPS = {
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "FrameVOILUTSequence": ("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    "PixelMeasuresSequence": ("PixelSpacing",),
}
"""Elements on which the picture depends, by the macros that they are in (PS3.3, section C.7.6.16)."""
UNREADABLE = (ValueError, TypeError, NotImplementedError, OverflowError, AttributeError)
"""Errors of pydicom for bytes that are not a value of the element's kind."""


def check_header(data_set: Dataset, *, name: str, max_pixels: int, notes: list[str]) -> None:
    """Refuse anything but one picture of a known kind and of limited size, and repair what the standard settles."""
    _check_extent(data_set, name, max_pixels)
    _check_frames(data_set, notes)
    _check_colours(data_set, notes)
    _check_bits(data_set, notes)
    _note_shape_of_pixels(data_set, notes)


def take_functional_groups(data_set: Dataset, groups: Dataset, notes: list[str]) -> None:
    """Take over the :data:`FUNCTIONAL_GROUPS` of an enhanced object for its one frame."""
    for macro, keywords in _IN_GROUPS.items():
        # A macro is either shared or that of the frame; the narrower one counts where a writer has both.
        items = [
            item
            for group in FUNCTIONAL_GROUPS
            for outer in items_of(groups, group)[:1]
            for item in items_of(outer, macro)[:1]
        ]
        for keyword in keywords:
            for item in items:
                if keyword not in item:
                    continue
                if is_filled(data_set, keyword) and value_of(data_set, keyword) != value_of(item, keyword):
                    add_note(notes, keyword, "ignored")
                data_set[keyword] = item[keyword]
    _note_shape_of_pixels(data_set, notes)


def value_of(data_set: Dataset, keyword: str, *, whole: bool = False) -> Any:
    """The value of an element, the first of several; None if it is missing, empty, or not of its kind."""
    try:
        value = data_set.get(keyword)
    except UNREADABLE:
        return None
    if not whole and (isinstance(value, list) or (hasattr(value, "append") and not isinstance(value, str))):
        value = value[0] if len(value) else None
    return None if value in ("", b"") else value


def items_of(data_set: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none if it is missing or not a sequence."""
    try:
        return list(value_of(data_set, keyword, whole=True) or ())
    except UNREADABLE:
        return []


def number_of(data_set: Dataset, keyword: str) -> float | None:
    """The finite number of an element, the first of several; None without one."""
    try:
        number = float(value_of(data_set, keyword))
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def is_filled(data_set: Dataset, keyword: str) -> bool:
    """Whether an element is there and not empty, be its value usable or not."""
    try:
        return keyword in data_set and data_set.get(keyword) not in (None, "", b"", [])
    except UNREADABLE:
        return True


def add_note(notes: list[str], keyword: str, what: str) -> None:
    """Add ``keyword-what`` unless it is there."""
    if (note := f"{keyword}-{what}") not in notes:
        notes.append(note)


def _whole(data_set: Dataset, keyword: str) -> int | None:
    number = number_of(data_set, keyword)
    return int(number) if number is not None and number == int(number) else None


def _check_extent(data_set: Dataset, name: str, max_pixels: int) -> None:
    if "Rows" not in data_set or "Columns" not in data_set:
        raise UnusableError(NO_PICTURE)
    rows, columns = _whole(data_set, "Rows") or 0, _whole(data_set, "Columns") or 0
    if rows < 1 or columns < 1:
        raise XrayError(
            f"{name} has Rows {rows} and Columns {columns}, which is no picture size; give the file of the radiograph "
            "itself, or export it again."
        )
    check_size(rows, columns, name=name, max_pixels=max_pixels)
    data_set.Rows, data_set.Columns = rows, columns


def _check_frames(data_set: Dataset, notes: list[str]) -> None:
    """Allow one frame; an impossible count is left out, and the number of pixels tells."""
    if not is_filled(data_set, "NumberOfFrames"):
        return
    frames = _whole(data_set, "NumberOfFrames")
    if frames is None or frames < 1:
        add_note(notes, "NumberOfFrames", "ignored")
    elif frames > 1:
        raise UnusableError(
            f"holds several frames (NumberOfFrames {frames}); export the one to look at as a file of its own."
        )


def _check_colours(data_set: Dataset, notes: list[str]) -> None:
    interpretation = str(value_of(data_set, "PhotometricInterpretation") or "").strip().upper()
    if not interpretation:
        raise UnusableError(
            "does not say in PhotometricInterpretation whether its highest values are bright or dark; export it again."
        )
    samples = _whole(data_set, "SamplesPerPixel")
    if samples is None:
        samples = next((count for count, names in _COLOURS.items() if interpretation in names), 0)
        add_note(notes, "SamplesPerPixel", "repaired")
    if interpretation not in _COLOURS.get(samples, ()):
        raise UnusableError(
            "has colours of a kind that is not supported, by PhotometricInterpretation and SamplesPerPixel; export it "
            "as grey DICOM or as PNG."
        )
    data_set.PhotometricInterpretation, data_set.SamplesPerPixel = interpretation, samples
    compressed = data_set.file_meta.TransferSyntaxUID.is_encapsulated
    if samples > 1 and _whole(data_set, "PlanarConfiguration") not in (0, 1):
        if not compressed:
            raise UnusableError(
                "does not say in PlanarConfiguration how its colours are interleaved; export it again or as PNG."
            )
        data_set.PlanarConfiguration = 0  # decoders know the order
    shape = str(value_of(data_set, "PresentationLUTShape") or "").strip().upper()
    expected = {"MONOCHROME1": "INVERSE", "MONOCHROME2": "IDENTITY"}.get(interpretation)
    if shape in ("INVERSE", "IDENTITY") and expected is not None and shape != expected:
        add_note(notes, "PresentationLUTShape", "ignored")  # PS3.3, section C.8.11.3.1.2 ties the two together
    if items_of(data_set, "PresentationLUTSequence"):  # made for printers
        add_note(notes, "PresentationLUTSequence", "ignored")


def _check_bits(data_set: Dataset, notes: list[str]) -> None:
    allocated, stored = _whole(data_set, "BitsAllocated"), _whole(data_set, "BitsStored")
    if allocated not in (1, 8, 16):
        raise UnusableError(
            "has pixels of a depth that is not supported, by BitsAllocated; export it with 8 or 16 bits a pixel."
        )
    if stored is None or not 1 <= stored <= allocated:
        raise UnusableError(
            f"has pixels of a depth that is not supported: BitsStored does not fit into BitsAllocated, {allocated}; "
            "export it again."
        )
    data_set.BitsAllocated, data_set.BitsStored = allocated, stored
    signed = _whole(data_set, "PixelRepresentation")
    if signed not in (0, 1):
        raise UnusableError("does not say in PixelRepresentation whether its pixels have a sign; export it again.")
    high = _whole(data_set, "HighBit")
    if high is None or not stored - 1 <= high < allocated:
        if signed and high is not None:
            raise UnusableError(
                f"has a HighBit that is impossible for BitsStored {stored} and BitsAllocated {allocated}, so that the "
                "sign of its pixels is unknown; export it again."
            )
        high = stored - 1  # PS3.5, section 8.1.1
        add_note(notes, "HighBit", "repaired")
    data_set.HighBit, data_set.PixelRepresentation = high, signed


def _note_shape_of_pixels(data_set: Dataset, notes: list[str]) -> None:
    """Note pixels that are not square: the picture is decoded as stored, and a viewer would stretch it."""
    for keyword in ("PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing"):
        try:
            down, across = (float(side) for side in data_set.get(keyword) or ())
        except UNREADABLE:
            continue
        if min(down, across) > 0 and abs(down / across - 1) > 0.01:
            add_note(notes, keyword, "ignored")
            return


_MOST_ENTRIES = 65536


@dataclass(frozen=True, eq=False)
class LookupTable:
    """A lookup table: entries (n,), the value of the first one, and bits (PS3.3, C.11.1.1 and C.7.6.3.1.5)."""

    entries: NDArray[np.float64]
    first: int
    depth: int

    def apply(self, values: NDArray[np.float64], *, signed: bool) -> NDArray[np.float64]:
        """Look values up; those outside of the table give its first or its last entry."""
        first = self.first - _MOST_ENTRIES if signed and self.first >= _MOST_ENTRIES // 2 else self.first
        places = np.clip(np.rint(values) - first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[places.astype(np.int64)], np.float64)


def lookup_table(item: Dataset, prefix: str, *, little: bool) -> LookupTable | None:
    """A table whose keywords begin with ``prefix``; None if it is missing or shorter than its descriptor says."""
    try:
        descriptor = _words(item[f"{prefix}Descriptor"].value, little=little)
        data = item[f"{prefix}Data"].value
        count, first, depth = (int(number) % _MOST_ENTRIES for number in descriptor)
        count = count or _MOST_ENTRIES
        entries = _entries(data, count, depth, little=little)
    except (KeyError, *UNREADABLE):
        return None
    return None if len(entries) < count else LookupTable(entries[:count].astype(np.float64), first, depth)


def _entries(data: Any, count: int, depth: int, *, little: bool) -> NDArray[Any]:
    """Entries packed in bytes if they have 8 bits, else in words of 16 bits."""
    if not isinstance(data, bytes):
        words = np.asarray(_words(data, little=little), np.int64) % _MOST_ENTRIES
        if depth > 8 or len(words) >= count:
            return words
        return words.astype("<u2").view(np.uint8)
    if len(data) >= 2 * count:
        return np.asarray(_words(data, little=little))
    if depth > 8:
        return np.empty(0)
    packed = np.frombuffer(data[: len(data) // 2 * 2], np.uint8)
    return packed if little else packed.reshape(-1, 2)[:, ::-1].ravel()


def _words(value: Any, *, little: bool) -> Any:
    """Numbers of 16 bits, also from the bytes that pydicom leaves if it cannot tell their kind."""
    if isinstance(value, bytes):
        return np.frombuffer(value[: len(value) // 2 * 2], "<u2" if little else ">u2")
    return [value] if isinstance(value, int) else list(value)
