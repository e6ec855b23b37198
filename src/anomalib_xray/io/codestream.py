"""Check a compressed frame of a DICOM file before a decoder sees it.

Decoders believe the frame, not the data set around it: a frame that declares another size, other channels or another
depth, or that grows without end, is refused here.
"""

from __future__ import annotations

from dataclasses import dataclass

from anomalib_xray.io.dicom_dataset import UnusableError
from anomalib_xray.io.jpeg import JPEG_SIGNATURE, jpeg_ends, jpeg_frame, jpeg_is_plain

_J2K_SIGNATURE = b"\xff\x4f\xff\x51"  # start of codestream and of the size segment, ISO/IEC 15444-1, section A.5
_J2K_END = b"\xff\xd9"
_J2K_SIZE_LENGTH = 38
_J2K_PADDING = 16  # bytes that some writers pad a frame with, zeros or not
_DECODED_JPEG = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xF7})  # baseline, extended, progressive, lossless; JPEG-LS
_JP2_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"  # the first box of a JP2 file, ISO/IEC 15444-1, section I.5.1
_MOST_BOXES = 100
_RLE_HEADER = 64  # bytes, PS3.5 section G.5
_RLE_SLACK = 256  # bytes that writers pad a segment with


@dataclass(frozen=True)
class Expected:
    """The frame that the data set describes: height, width, channels and 8 or 16 bits."""

    rows: int
    columns: int
    samples: int
    bits_allocated: int


@dataclass(frozen=True)
class Samples:
    """The samples of a frame by its own header; ``kind`` is the byte behind ``FF`` in a JPEG's or JPEG-LS's marker."""

    precision: int
    signed: bool = False
    kind: int = 0


def is_jpeg_2000(frame: bytes) -> bool:
    """Whether a frame begins as a JPEG 2000 codestream or as a JP2 file."""
    return frame.startswith((_J2K_SIGNATURE, _JP2_SIGNATURE))


def is_jpeg(frame: bytes) -> bool:
    """Whether a frame begins as a JPEG or JPEG-LS stream."""
    return frame.startswith(JPEG_SIGNATURE)


def is_rle(frame: bytes, expected: Expected) -> bool:
    """Whether a frame begins with the header of an RLE picture of the expected kind (PS3.5, section G.5)."""
    count, first = (int.from_bytes(frame[at : at + 4], "little") for at in (0, 4))
    return count == expected.samples * expected.bits_allocated // 8 and first == _RLE_HEADER


def jpeg_2000_codestream(frame: bytes) -> bytes:
    """The codestream of a JPEG 2000 frame, without the boxes of a JP2 file that some writers leave around it."""
    if not frame.startswith(_JP2_SIGNATURE):
        return frame
    position = 0
    for _ in range(_MOST_BOXES):
        length, kind = int.from_bytes(frame[position : position + 4], "big"), frame[position + 4 : position + 8]
        header = 8
        if length == 1:
            length, header = int.from_bytes(frame[position + 8 : position + 16], "big"), 16
        if kind == b"jp2h" and b"pclr" in frame[position : position + length]:
            raise UnusableError("has a JPEG 2000 picture with a palette, which DICOM does not allow; export it as PNG.")
        if kind == b"jp2c":
            return frame[position + header : position + length if length else None]
        if length < header:
            break
        position += length
    raise UnusableError("is damaged: the JP2 file around its picture holds no codestream; export it again.")


def check_jpeg(frame: bytes, expected: Expected) -> Samples:
    """Refuse a JPEG or JPEG-LS frame that is truncated or declares another picture than expected."""
    header = jpeg_frame(frame)
    if header is not None and header.kind not in _DECODED_JPEG:
        raise UnusableError(
            f"is compressed as JPEG of a kind that the installed decoders do not read (marker FF{header.kind:02X}); "
            "save it uncompressed with the program that wrote it, or as PNG."
        )
    if header is None or not jpeg_is_plain(frame) or not jpeg_ends(frame):
        raise UnusableError(
            "is damaged: its JPEG picture is truncated, or has a header that decoders do not know; export it again."
        )
    _compare(expected, header.height, header.width, header.components, header.precision)
    return Samples(header.precision, kind=header.kind)


def check_jpeg_2000(frame: bytes, expected: Expected) -> Samples:
    """Refuse a JPEG 2000 codestream that is truncated or declares another picture than expected."""
    if not frame.startswith(_J2K_SIGNATURE) or len(frame) < 4 + _J2K_SIZE_LENGTH:
        raise UnusableError("is damaged: its picture is no JPEG 2000 codestream; export it again.")
    if _J2K_END not in frame[-_J2K_PADDING:]:  # coded data never holds these two bytes
        raise UnusableError("is damaged: its JPEG 2000 picture is truncated; export it again.")
    right, bottom, left, top = (int.from_bytes(frame[at : at + 4], "big") for at in (8, 12, 16, 20))
    components = int.from_bytes(frame[40:42], "big")
    precision = (frame[42] & 0x7F) + 1
    _compare(expected, bottom - top, right - left, components, precision)
    return Samples(precision, signed=bool(frame[42] & 0x80))


def check_rle(frame: bytes, expected: Expected) -> None:
    """Refuse an RLE frame, whose 2 bytes can become 128, if a segment would become longer than the picture."""
    count = int.from_bytes(frame[:4], "little")
    if len(frame) < _RLE_HEADER or count != expected.samples * expected.bits_allocated // 8:
        raise UnusableError(
            "is damaged: its RLE picture has another number of segments than BitsAllocated and SamplesPerPixel say; "
            "export it again."
        )
    starts = [int.from_bytes(frame[4 * at : 4 * at + 4], "little") for at in range(1, count + 1)]
    for start, end in zip(starts, [*starts[1:], len(frame)], strict=True):
        _check_segment(frame[start:end], expected.rows * expected.columns + _RLE_SLACK)


def _check_segment(segment: bytes, longest: int) -> None:
    """Add up the runs of a segment (PS3.5, section G.3.2)."""
    position, length = 0, 0
    while position < len(segment):
        control = segment[position]
        if control < 128:  # as many bytes, one more, follow as they are
            position += control + 2
            length += control + 1
        else:  # one byte follows, to be repeated; 128 itself does nothing
            position += 2 if control > 128 else 1
            length += 257 - control if control > 128 else 0
        if length > longest:
            raise UnusableError("is damaged: a segment of its RLE picture is longer than the picture; export it again.")


def _compare(expected: Expected, height: int, width: int, components: int, precision: int) -> None:
    same = (height, width, components) == (expected.rows, expected.columns, expected.samples)
    if not same or precision > expected.bits_allocated:
        raise UnusableError(
            f"is damaged: its compressed frame declares another picture ({width} x {height}, {components} samples of "
            f"{precision} bits) than Columns, Rows, SamplesPerPixel and BitsAllocated do; export it again."
        )
