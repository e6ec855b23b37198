"""The stored pixels of a DICOM file: found, unwrapped, checked and decoded."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.io.codestream import (
    Expected,
    Samples,
    check_jpeg,
    check_jpeg_2000,
    check_rle,
    is_jpeg,
    is_jpeg_2000,
    is_rle,
    jpeg_2000_codestream,
)
from anomalib_xray.io.dicom_dataset import PLAIN_SYNTAX, UnusableError
from anomalib_xray.io.jpeg import jpeg_lacks_data

if TYPE_CHECKING:
    from pydicom import Dataset

NO_PICTURE = "is a DICOM file without a picture, or truncated; give the whole file of the radiograph itself."

_PIXELS, _FLOAT, _DOUBLE = b"\xe0\x7f\x10\x00", b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00"
_ITEM, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_MOST_FRAGMENTS = 100_000
_JPEG_LS = 0xF7
_SYNTAX_OF_JPEG = {0xC3: "1.2.840.10008.1.2.4.57", _JPEG_LS: "1.2.840.10008.1.2.4.80"}
_ANY_JPEG = "1.2.840.10008.1.2.4.50"
"""gdcm goes by the stream. pydicom would refuse 12 bits under the name of the extended process, which gdcm decodes."""
_JPEG_2000 = "1.2.840.10008.1.2.4.91"
_RLE = "1.2.840.10008.1.2.5"


@dataclass(frozen=True)
class Stored:
    """Pixels as they are stored, before any of their bits is interpreted.

    Attributes:
        pixels: (H, W), uint8 or uint16, the whole cell of each pixel; or (H, W, 3) in the order RGB.
        precision: Bits of a sample by the compressed frame; None for an uncompressed picture.
    """

    pixels: NDArray[Any]
    precision: int | None = None


def stored_pixels(data_set: Dataset, content: bytes, start: int, notes: list[str], *, swapped: bool = False) -> Stored:
    """Decode the pixels, whose element begins at ``start`` of the file.

    ``TransferSyntaxUID-ignored`` in the notes says that it is unknown how the pixels are stored; it becomes
    ``repaired`` if they tell it themselves. ``swapped`` says that uncompressed words of 16 bits are declared to be of
    the other byte order than the elements. Anything that pydicom and its decoders raise passes.

    Raises:
        UnusableError: There are none, or not as many as the data set says, or their compression cannot be undone.
    """
    implicit, little = data_set.original_encoding
    value, vr, undefined = _value(content, start, implicit=bool(implicit), little=bool(little))
    syntax = data_set.file_meta.TransferSyntaxUID
    frame = _frame(value, _native_length(data_set), declared=syntax.is_encapsulated, undefined=undefined)
    if (frame is not None) != syntax.is_encapsulated:
        notes.append("TransferSyntaxUID-repaired")
    if frame is None:
        _check_length(data_set, value, notes)
        plain = PLAIN_SYNTAX[bool(little), not implicit]
        stored = Stored(_array(data_set, plain, value, data_set.BitsAllocated, vr=vr))
        return _in_byte_order(data_set, stored, notes, swapped=swapped and bool(implicit) and bool(little))
    if _UNKNOWN_SYNTAX in notes:
        notes.remove(_UNKNOWN_SYNTAX)  # a compressed frame tells its kind itself
        notes.append("TransferSyntaxUID-repaired")
    return _decompressed(data_set, frame, notes)


def _value(content: bytes, start: int, *, implicit: bool, little: bool) -> tuple[bytes, str, bool]:
    """Bytes and value representation of the pixels' element, and whether its length is undefined."""
    order = "little" if little else "big"
    tag = content[start : start + 4]
    tag = tag if little else tag[1::-1] + tag[:1:-1]
    if tag in (_FLOAT, _DOUBLE):
        keyword = "FloatPixelData" if tag == _FLOAT else "DoubleFloatPixelData"
        raise UnusableError(f"holds its picture as {keyword}, which no radiograph has; export it with 16 bits a pixel.")
    if tag != _PIXELS:
        raise UnusableError(NO_PICTURE)
    short = 6 if content[start + 4 : start + 6] not in (b"OB", b"OW", b"UN") else 8
    header = 8 if implicit or short == 6 else 12
    vr = "OW" if implicit else content[start + 4 : start + 6].decode("ascii", "replace")
    at = 4 if implicit else short
    length = int.from_bytes(content[start + at : start + header], order)  # type: ignore[arg-type]
    undefined = length == 0xFFFFFFFF
    return content[start + header : None if undefined else start + header + length], vr, undefined


def _native_length(data_set: Dataset) -> int:
    """Bytes of the uncompressed picture."""
    samples: int = data_set.Rows * data_set.Columns * data_set.SamplesPerPixel
    if data_set.PhotometricInterpretation == "YBR_FULL_422":
        samples = samples // 3 * 2
    return -(-samples * int(data_set.BitsAllocated) // 8)  # rounded up


def _frame(value: bytes, native: int, *, declared: bool, undefined: bool) -> bytes | None:
    """The compressed frame of a value; None for uncompressed pixels, whatever the transfer syntax declares."""
    if value.startswith(_ITEM) and (undefined or declared):
        return _joined(_fragments(value))
    if len(value) < native and (is_jpeg(value) or is_jpeg_2000(value)):
        return value
    if undefined or (declared and not native <= len(value) <= native + 1):
        raise UnusableError("is damaged: its PixelData is not divided into items; export it again.")
    return None


def _fragments(value: bytes) -> list[bytes]:
    """The items of encapsulated pixels (PS3.5, section A.4), up to the end or the delimiter."""
    fragments: list[bytes] = []
    position = 0
    while len(fragments) < _MOST_FRAGMENTS:
        if value[position : position + 4] not in (_ITEM, _SEQUENCE_END):
            position += 1  # some writers pad fragments of odd length and do not count the byte
        if value[position : position + 4] != _ITEM:
            return fragments
        length = int.from_bytes(value[position + 4 : position + 8], "little")
        fragments.append(value[position + 8 : position + 8 + length])
        position += 8 + length
    raise UnusableError("is damaged: its PixelData has too many fragments; export it again.")


def _joined(fragments: list[bytes]) -> bytes:
    """The frame of a single picture: its fragments without the offset table, which may be empty or missing."""
    if not fragments:
        raise UnusableError(NO_PICTURE)
    first, *others = fragments
    # The table has an entry of 4 bytes per frame.
    is_table = not (is_jpeg(first) or is_jpeg_2000(first)) and (bool(others) or len(first) <= 4)
    parts = others if is_table else fragments
    if sum(is_jpeg(part) or is_jpeg_2000(part) for part in parts) > 1:
        raise UnusableError("holds several frames, whatever NumberOfFrames says; export the one to look at.")
    return b"".join(parts)


def _in_byte_order(data_set: Dataset, stored: Stored, notes: list[str], *, swapped: bool = False) -> Stored:
    """The pixels in the byte order in which they are a picture, if the declared one is in doubt.

    Neighbours in a picture are alike; with their bytes swapped, noise becomes the largest difference.
    """
    cells = stored.pixels
    is_known = not (swapped or _UNKNOWN_SYNTAX in notes)
    if cells.dtype.itemsize == 1 or (is_known and _fits(cells, data_set)):
        return stored
    other = Stored(cells.byteswap())
    ratio = _roughness(other.pixels) / max(_roughness(cells), 1e-9)
    if swapped:
        if ratio <= _CLEARLY_ROUGHER:
            return other
        notes.append("TransferSyntaxUID-repaired")
    elif ratio < 1 / _CLEARLY_ROUGHER:
        if _fits(other.pixels, data_set):
            notes.append("PixelData-repaired")
            return other
        if not is_known:
            raise UnusableError(
                "has a TransferSyntaxUID that is unknown, and the bytes of its pixels seem to be in another order than "
                "those of its elements; export it again, uncompressed."
            )
    return stored


def _fits(cells: NDArray[Any], data_set: Dataset) -> bool:
    """Whether all values of 16 bits are within the bits that are stored."""
    if data_set.PixelRepresentation == 1:
        values, limit = cells.view(np.int16), 2 ** (data_set.BitsStored - 1)
        return bool(-limit <= values.min() and values.max() < limit)
    return bool(int(cells.max()) < 2 ** (data_set.HighBit + 1))


_UNKNOWN_SYNTAX = "TransferSyntaxUID-ignored"
_CLEARLY_ROUGHER = 1.5


def _roughness(pixels: NDArray[Any]) -> float:
    """Mean difference of neighbours along both axes, in standard deviations; that of noise is about 1.1."""
    values = pixels.astype(np.float32)
    steps = [np.abs(np.diff(values, axis=axis)) for axis in (0, 1)]
    spread = float(values.std())
    return sum(float(step.mean()) for step in steps if step.size) / 2 / spread if spread else 0.0


def _check_length(data_set: Dataset, value: bytes, notes: list[str]) -> None:
    """Compare the bytes of the pixels with those that the data set wants."""
    wanted = _native_length(data_set)
    excess = len(value) - wanted
    if excess < 0:
        raise UnusableError(
            f"is damaged: PixelData has {len(value)} bytes, and Rows, Columns, SamplesPerPixel and BitsAllocated ask "
            f"for {wanted}; it is truncated, or one of these is wrong: export it again."
        )
    if excess <= 1:
        return
    if _UNKNOWN_SYNTAX in notes:
        raise UnusableError(
            f"has a TransferSyntaxUID that is unknown, and {len(value)} bytes of PixelData where uncompressed pixels "
            f"have {wanted}; export it again, uncompressed."
        )
    if excess >= wanted // data_set.Rows and any(value[wanted:]):
        raise UnusableError(
            f"has more PixelData ({len(value)} bytes) than Rows, Columns, SamplesPerPixel, BitsAllocated and "
            f"NumberOfFrames ask for ({wanted}), so that one of these is wrong; export it again."
        )
    notes.append("PixelData-repaired")


def _decompressed(data_set: Dataset, frame: bytes, notes: list[str]) -> Stored:
    """The pixels of a compressed frame, which is checked before it is decoded."""
    from pydicom.encaps import encapsulate

    expected = Expected(data_set.Rows, data_set.Columns, data_set.SamplesPerPixel, data_set.BitsAllocated)
    if not (is_jpeg(frame) or is_jpeg_2000(frame)):
        declared = data_set.file_meta.TransferSyntaxUID
        if declared != _RLE and not is_rle(frame, expected):
            kind = f"as {declared.name}" if declared.is_encapsulated else "by an unknown transfer syntax"
            raise UnusableError(
                f"is compressed {kind}, and the installed decoders find no picture of theirs in it (JPEG, JPEG-LS, "
                "JPEG 2000, RLE); save it uncompressed with the program that wrote it, or as PNG."
            )
        check_rle(frame, expected)
        stored = Stored(_array(data_set, _RLE, encapsulate([frame]), data_set.BitsAllocated, plugin="pydicom"))
        return _in_byte_order(data_set, stored, notes)  # some writers begin with the lower bytes
    if is_jpeg_2000(frame):
        frame, syntax = jpeg_2000_codestream(frame), _JPEG_2000
        samples = check_jpeg_2000(frame, expected)
        if samples.signed != bool(data_set.PixelRepresentation):
            # Writers forget the sign in either place; none of them invents one.
            notes.append("PixelRepresentation-repaired")
            data_set.PixelRepresentation = 1
    else:
        samples = check_jpeg(frame, expected)
        syntax = _SYNTAX_OF_JPEG.get(samples.kind, _ANY_JPEG)
    if data_set.get("PlanarConfiguration") == 1 and samples.kind != _JPEG_LS:
        notes.append("PlanarConfiguration-ignored")  # the stream itself orders its samples (PS3.5, section 8.2)
        data_set.PlanarConfiguration = 0

    def decode(stream: bytes) -> NDArray[Any]:
        return _array(data_set, syntax, encapsulate([stream]), 0, samples=samples, plugin="gdcm")

    importlib.import_module("gdcm")  # pydicom would only say that it has no decoder
    try:
        pixels = decode(frame)
        is_cut = samples.kind not in (0, _JPEG_LS) and jpeg_lacks_data(frame, pixels, decode, bits=samples.precision)
    except Exception as error:
        what = f"JPEG, marker FF{samples.kind:02X}" if samples.kind else "JPEG 2000"
        raise UnusableError(
            f"is damaged inside of its pixels, or compressed in a way ({what}, {samples.precision} bits) that the "
            "installed decoder, gdcm, does not read; save it uncompressed with the program that wrote it, or as PNG."
        ) from error
    if is_cut:
        raise UnusableError("is damaged: its JPEG picture lacks data; export it again.")
    if pixels.ndim == 2:
        pixels = pixels & pixels.dtype.type(2**samples.precision - 1)
    return Stored(pixels, samples.precision)


def _array(
    data_set: Dataset,
    syntax: str,
    value: bytes,
    bits: int,
    *,
    samples: Samples | None = None,
    plugin: str = "",
    vr: str = "OB",
) -> NDArray[Any]:
    """Decode by pydicom: whole cells without a sign, or samples of a compressed frame in their two's complement."""
    from pydicom import Dataset as NewDataset
    from pydicom.dataelem import DataElement
    from pydicom.dataset import FileMetaDataset
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import UID

    asked = NewDataset()
    asked.file_meta = FileMetaDataset()
    asked.file_meta.TransferSyntaxUID = UID(syntax)
    for keyword in ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"):
        if keyword in data_set:
            setattr(asked, keyword, getattr(data_set, keyword))
    precision = bits if samples is None else samples.precision
    asked.BitsAllocated = bits or (8 if precision <= 8 else 16)
    asked.BitsStored, asked.HighBit = precision, precision - 1
    asked.PixelRepresentation = int(samples is not None and samples.signed)
    asked["PixelData"] = DataElement(0x7FE00010, "OW" if vr == "OW" else "OB", value)
    # Which decoder runs must not depend on what else is installed.
    pixels = pixel_array(asked, index=0, decoding_plugin=plugin)
    unsigned = np.dtype(f"u{pixels.dtype.itemsize}")
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("=")).view(unsigned)
