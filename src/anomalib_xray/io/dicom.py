"""Decode a DICOM radiograph to grey levels as a viewer would show them.

Needs pydicom; for compressed pictures gdcm as well: ``pip install 'anomalib-xray[dicom]'``.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.codestream import Expected, check_jpeg, check_jpeg_2000, check_rle
from anomalib_xray.io.dicom_dataset import BoundedReader, inflated, read_elements, reading_dicom
from anomalib_xray.io.formats import MAX_PIXELS, check_size
from anomalib_xray.io.radiograph import Radiograph

if TYPE_CHECKING:
    from pydicom import Dataset

_PIXEL_DATA = "PixelData"
_ELEMENTS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "ModalityLUTSequence",
    "RescaleSlope",
    "RescaleIntercept",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
)
"""All that the pixels depend on, and no more. Segmented palettes are left out: they can refer to themselves."""

_NO_PICTURE = "{name} is a DICOM file without a picture, or truncated; give the whole file of the radiograph itself."


def decode_dicom(content: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> Radiograph:
    """Decodes the one picture of a DICOM file.

    The stored values go through the modality transform (lookup table or rescaling), then through the first VOI
    transform (lookup table, else window), and those of MONOCHROME1 are then mirrored within the picture's range, so
    that bone is bright. An 8-bit picture that no transform changes keeps its levels; every other one is stretched
    linearly so that its minimum becomes 0 and its maximum the highest level; a constant one becomes 0. Colour becomes
    weighted grey (ITU-R BT.601) of what a screen shows. Overlays, presentation states and padding values are not
    applied.

    Args:
        content: The whole file.
        name: What messages call it, for example the path.
        max_pixels: Larger pictures are refused before they are decoded.

    Returns:
        The picture (H, W): uint8 if at most 8 bits are stored, else uint16. A palette's depth is that of its entries.

    Raises:
        XrayError: The file is too large, damaged, has several frames or no picture, is of a kind that is not supported,
            or pydicom is missing. The message quotes nothing of the file but its size.
    """
    with reading_dicom(name):
        content = inflated(content, name)
        data_set = read_elements(content, _ELEMENTS)
        _check_picture(data_set, name, max_pixels)
        pixels = _pixels(data_set, content, name)
        if pixels.ndim == 3:
            return cast("Radiograph", cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
        if data_set.PhotometricInterpretation == "PALETTE COLOR":
            return _palette_grey(pixels, data_set)
        image, _ = _displayed(pixels, data_set)
        return image


@dataclass(frozen=True, eq=False)
class Unwindowed:
    """A grey picture before its window, for viewers that apply one themselves.

    Attributes:
        image: (H, W), as :func:`decode_dicom` returns it, but for the window.
        ends: Values, in the file's own units, that the darkest and the brightest level of its depth stand for.
        windows: Centres and widths that the file suggests, in its own units, those that would show nothing left out.
    """

    image: Radiograph
    ends: tuple[float, float]
    windows: list[tuple[float, float]]


def decode_unwindowed(content: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> Unwindowed | None:
    """Decodes the one picture of a DICOM file as :func:`decode_dicom` does, and leaves the window out.

    Args:
        content: The whole file.
        name: What messages call it, for example the path.
        max_pixels: Larger pictures are refused before they are decoded.

    Returns:
        The picture; ``None`` where no linear window leads to what :func:`decode_dicom` returns: one in colour, of a
        single level, with a VOI table, or with a sigmoid.

    Raises:
        XrayError: As of :func:`decode_dicom`.
    """
    with reading_dicom(name):
        content = inflated(content, name)
        data_set = read_elements(content, _ELEMENTS)
        _check_picture(data_set, name, max_pixels)
        is_grey = data_set.PhotometricInterpretation in ("MONOCHROME1", "MONOCHROME2")
        if not is_grey or data_set.get("VOILUTSequence") or data_set.get("VOILUTFunction") == "SIGMOID":
            return None
        windows = _windows(data_set)
        for keyword in ("WindowCenter", "WindowWidth"):
            if keyword in data_set:
                delattr(data_set, keyword)
        image, ends = _displayed(_pixels(data_set, content, name), data_set)
    low, high = sorted(ends)
    shown = [(centre, width) for centre, width in windows if centre - width / 2 < high and centre + width / 2 > low]
    return Unwindowed(image, ends, shown) if low < high else None


def _windows(data_set: Dataset) -> list[tuple[float, float]]:
    """Centres and widths that can be used."""
    both = [data_set.get(keyword) for keyword in ("WindowCenter", "WindowWidth")]
    centres, widths = ([value] if np.isscalar(value) else list(value or ()) for value in both)
    pairs = [(float(centre), float(width)) for centre, width in zip(centres, widths, strict=False)]
    return [pair for pair in pairs if np.isfinite(pair).all() and pair[1] > 0]


def _check_picture(data_set: Dataset, name: str, max_pixels: int) -> None:
    """Refuses what is not one picture of a known kind and of limited size."""
    if "Rows" not in data_set or "Columns" not in data_set:
        raise XrayError(_NO_PICTURE.format(name=name))
    check_size(int(data_set.Rows), int(data_set.Columns), name=name, max_pixels=max_pixels)
    if int(data_set.get("NumberOfFrames") or 1) != 1:
        raise XrayError(f"{name} holds several frames; export the one to look at as a file of its own.")
    kinds = {
        1: ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"),
        3: ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"),
    }
    if data_set.PhotometricInterpretation not in kinds.get(data_set.SamplesPerPixel, ()):
        raise XrayError(f"{name} has colours of a kind that is not supported; export it as grey DICOM or as PNG.")
    if data_set.BitsAllocated not in (1, 8, 16) or not 1 <= data_set.BitsStored <= data_set.BitsAllocated:
        raise XrayError(f"{name} has pixels of a depth that is not supported; export it with 8 or 16 bits a pixel.")


def _pixels(data_set: Dataset, content: bytes, name: str) -> NDArray[Any]:
    """Decodes the stored values: (H, W) of 8 or 16 bits, signed or not, or (H, W, 3) in the order RGB."""
    from pydicom import dcmread
    from pydicom.pixels.utils import pixel_array

    with_pixels = dcmread(BoundedReader(content), specific_tags=[_PIXEL_DATA])
    if _PIXEL_DATA not in with_pixels:
        raise XrayError(_NO_PICTURE.format(name=name))
    # Only this element is taken from behind the header: another size behind the pixels would not have been checked.
    data_set[_PIXEL_DATA] = with_pixels.get_item(_PIXEL_DATA)
    # Which decoder runs must not depend on what else is installed.
    pixels = pixel_array(data_set, index=0, decoding_plugin=_checked_frame_decoder(data_set))
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))


def _checked_frame_decoder(data_set: Dataset) -> str:
    """Looks at a compressed frame; names the decoder for it, empty for an uncompressed one."""
    from pydicom import uid
    from pydicom.encaps import get_frame

    syntax = data_set.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return ""
    frame = get_frame(BoundedReader(data_set.PixelData), 0, number_of_frames=1)
    expected = Expected(data_set.Rows, data_set.Columns, data_set.SamplesPerPixel, data_set.BitsAllocated)
    if syntax == uid.RLELossless:
        check_rle(frame, expected)
        return "pydicom"
    check = check_jpeg_2000 if syntax in uid.JPEG2000TransferSyntaxes else check_jpeg
    check(frame, expected)
    importlib.import_module("gdcm")  # pydicom would only say that it has no decoder
    return "gdcm"


def _palette_grey(pixels: NDArray[Any], data_set: Dataset) -> Radiograph:
    """Looks up the colours of a palette, as weighted grey."""
    from pydicom.pixels.processing import apply_color_lut

    index, levels = _indexed(pixels)
    colours = apply_color_lut(levels, data_set)
    table = cv2.cvtColor(colours[np.newaxis], cv2.COLOR_RGB2GRAY)
    return cast("Radiograph", cv2.LUT(index, table))


def _displayed(pixels: NDArray[Any], data_set: Dataset) -> tuple[Radiograph, tuple[float, float]]:
    """Takes stored grey values through the display pipeline, by a table with an entry for each possible value.

    Returns:
        The picture, and the values that its darkest and its brightest level stand for.
    """
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    index, levels = _indexed(pixels)
    _widen_voi_lut(data_set)
    values = np.asarray(apply_modality_lut(levels, data_set))
    if np.abs(values).max() < 2**31 and np.array_equal(values, np.rint(values)):
        values = values.astype(np.int64)  # a lookup table wants whole numbers
    values = np.asarray(apply_voi_lut(values, data_set), np.float64)
    present = cv2.calcHist([index], [0], None, [levels.size], [0, levels.size]).ravel() > 0
    darkest, brightest = float(values[present].min()), float(values[present].max())
    if not np.isfinite(brightest - darkest):
        raise ValueError("the transform leads to infinity")
    unchanged = data_set.BitsStored == 8 and brightest <= 255 and np.array_equal(values[present], levels[present])
    depth = np.uint8 if data_set.BitsStored <= 8 else np.uint16
    highest = np.iinfo(depth).max
    ends = (0.0, float(highest)) if unchanged else (darkest, brightest)
    if data_set.PhotometricInterpretation == "MONOCHROME1":
        values = darkest + brightest - values
        ends = (darkest + brightest - ends[0], darkest + brightest - ends[1])
    if not unchanged:
        values = (values - darkest) * (highest / (brightest - darkest) if brightest > darkest else 0)
    table: NDArray[np.integer[Any]] = np.rint(np.clip(values, 0, highest)).astype(depth)
    return cast("Radiograph", cv2.LUT(index, table[np.newaxis])), ends


def _indexed(pixels: NDArray[Any]) -> tuple[Radiograph, NDArray[np.int32]]:
    """Stored values as indices without a sign, and the value behind each index."""
    unsigned = np.dtype(f"u{pixels.dtype.itemsize}")
    levels = np.arange(2 ** (8 * unsigned.itemsize)).astype(unsigned).view(pixels.dtype).astype(np.int32)
    return cast("Radiograph", pixels.view(unsigned)), levels


def _widen_voi_lut(data_set: Dataset) -> None:
    """Declares a VOI table of 8-bit entries as one of 16 bits, which changes no entry.

    pydicom computes the position in a table in the depth of its entries, which is too small for more than 256 of them.
    """
    for item in data_set.get("VOILUTSequence") or ():
        entries, first, depth = item.LUTDescriptor
        item.LUTDescriptor = [entries, first, 16 if depth == 8 else depth]
