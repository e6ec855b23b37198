"""Decode a DICOM radiograph to grey levels as a viewer would show them.

Needs pydicom; for compressed pictures gdcm as well: ``pip install 'anomalib-xray[dicom]'``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import cv2

from anomalib_xray.io.dicom_dataset import has_big_endian_pixels, read_elements, reading_dicom, standard_file
from anomalib_xray.io.dicom_display import OVERLAY_POSITIONS, displayed, palette_grey, usable_windows, window_function
from anomalib_xray.io.dicom_header import FUNCTIONAL_GROUPS, check_header, take_functional_groups
from anomalib_xray.io.dicom_pixels import Stored, stored_pixels
from anomalib_xray.io.formats import MAX_PIXELS
from anomalib_xray.io.radiograph import Radiograph

if TYPE_CHECKING:
    from pydicom import Dataset

DICOM_READER = 3
"""Raised whenever the same file is read as another picture than before, so that its outputs are made anew."""

_ELEMENTS: tuple[str | int, ...] = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ModalityLUTSequence", "RescaleSlope",
    "RescaleIntercept", "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData", "PixelPaddingValue", "PixelPaddingRangeLimit", "PresentationLUTShape",
    "PresentationLUTSequence", "PixelAspectRatio", "PixelSpacing", "ImagerPixelSpacing",
    *OVERLAY_POSITIONS,
)  # fmt: skip
"""All that the pixels depend on, and no more. Segmented palettes are left out: they can refer to themselves."""
_TAGS_OF_GROUPS = (b"\x00\x52\x29\x92", b"\x00\x52\x30\x92", b"\x52\x00\x92\x29", b"\x52\x00\x92\x30")


def decode_dicom(
    content: bytes, *, name: str, max_pixels: int = MAX_PIXELS, notes: list[str] | None = None
) -> Radiograph:
    """Decode the one picture of a DICOM file.

    The stored values go through the modality transform, then through the first VOI transform (lookup table, else
    window); those of MONOCHROME1 are then mirrored within the picture's range, so that bone is bright. An 8-bit picture
    that no transform changes keeps its levels; every other one is stretched linearly so that its minimum becomes 0 and
    its maximum the highest level; a constant one becomes 0. Padding becomes 0 and does not count for the minimum and
    the maximum. Colour becomes weighted grey (ITU-R BT.601). Overlays and presentation states are not applied, and
    pixels that are not square are not stretched.

    No value of the header is believed unchecked. One that contradicts the pixels is repaired if the standard or the
    pixels settle it; one that only advises on the display is left out if it cannot be used; both are noted. If the
    picture depends on it, the file is refused.

    Args:
        content: The whole file.
        name: Name of the file in messages, for example its path.
        max_pixels: Larger pictures are refused before they are decoded.
        notes: List to which notes are added: ``WindowWidth-ignored``, ``BitsStored-repaired``. Without a list they are
            a warning.

    Returns:
        The picture (H, W): uint8 if at most 8 bits are stored, else uint16. A palette's depth is that of its entries.

    Raises:
        XrayError: The file is too large, damaged, has several frames or no picture, contradicts itself, is of a kind
            that is not supported, or pydicom is missing. The message quotes only numbers about the pixels.
    """
    found: list[str] = []
    with reading_dicom(name):
        data_set, stored = _stored(content, name, max_pixels, found)
        if stored.pixels.ndim == 3:
            image = cast("Radiograph", cv2.cvtColor(stored.pixels, cv2.COLOR_RGB2GRAY))
        elif data_set.PhotometricInterpretation == "PALETTE COLOR":
            image = palette_grey(stored, data_set)
        else:
            image, _ = displayed(stored, data_set, found)
    if notes is not None:
        notes.extend(dict.fromkeys(found))
    elif found:  # where no row shows it; each file is warned of once
        warnings.warn(f"{name}: {' '.join(dict.fromkeys(found))}", UserWarning, stacklevel=2)
    return image


@dataclass(frozen=True, eq=False)
class Unwindowed:
    """A grey picture before its window, for viewers that apply one themselves.

    Attributes:
        image: (H, W), as :func:`decode_dicom` returns it, but for the window.
        ends: Values, in the file's own units, of the darkest and the brightest level.
        windows: Centres and widths that the file suggests, in its own units, without those that would show nothing.
    """

    image: Radiograph
    ends: tuple[float, float]
    windows: list[tuple[float, float]]


def decode_unwindowed(content: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> Unwindowed | None:
    """Decode the one picture of a DICOM file as :func:`decode_dicom` does, without the window.

    ``None`` if no linear window leads to the result of :func:`decode_dicom`: for a picture in colour, of a single
    level, with a VOI table, or with a sigmoid.
    """
    with reading_dicom(name):
        data_set, stored = _stored(content, name, max_pixels, [])
        is_grey = data_set.PhotometricInterpretation in ("MONOCHROME1", "MONOCHROME2")
        if not is_grey or data_set.get("VOILUTSequence") or window_function(data_set) == "SIGMOID":
            return None
        image, ends = displayed(stored, data_set, [], voi=False)
        low, high = sorted(ends)
        shown = [(c, w) for c, w in usable_windows(data_set) if c - w / 2 < high and c + w / 2 > low]
    return Unwindowed(image, ends, shown) if low < high else None


def _stored(content: bytes, name: str, max_pixels: int, notes: list[str]) -> tuple[Dataset, Stored]:
    """The checked elements, and the pixels as they are stored."""
    swapped = has_big_endian_pixels(content)
    content = standard_file(content, name, notes)
    data_set, start = read_elements(content, _ELEMENTS)
    check_header(data_set, name=name, max_pixels=max_pixels, notes=notes)
    if any(content.find(tag, 0, start) >= 0 for tag in _TAGS_OF_GROUPS):  # those of many frames are never read
        take_functional_groups(data_set, read_elements(content, FUNCTIONAL_GROUPS)[0], notes)
    return data_set, stored_pixels(data_set, content, start, notes, swapped=swapped)
