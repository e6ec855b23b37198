"""Look at a compressed frame of a DICOM file before a decoder does.

Decoders believe the frame, not the data set around it: a frame that declares another size, other channels or another
depth, or that grows without end, is refused here.
"""

from __future__ import annotations

from dataclasses import dataclass

from anomalib_xray.io.jpeg import jpeg_ends, jpeg_frame, jpeg_is_plain

_J2K_SIGNATURE = b"\xff\x4f\xff\x51"  # start of codestream and of the size segment, ISO/IEC 15444-1, section A.5
_J2K_END = b"\xff\xd9"
_J2K_SIZE_LENGTH = 38
_J2K_PADDING = 16  # bytes that some writers pad a frame with, zeros or not
_RLE_HEADER = 64  # bytes, PS3.5 section G.5
_RLE_SLACK = 256  # bytes that writers pad a segment with


@dataclass(frozen=True)
class Expected:
    """What the data set says about its frame.

    Attributes:
        rows: Height in pixels.
        columns: Width in pixels.
        samples: Number of channels.
        bits_allocated: 8 or 16.
    """

    rows: int
    columns: int
    samples: int
    bits_allocated: int


def check_jpeg(frame: bytes, expected: Expected) -> None:
    """Checks a JPEG or JPEG-LS frame.

    Args:
        frame: The stream.
        expected: What the data set says.

    Raises:
        ValueError: They differ, or the frame is truncated.
    """
    header = jpeg_frame(frame)
    if header is None or not jpeg_is_plain(frame) or not jpeg_ends(frame):
        raise ValueError("the frame is truncated or has an unusual header")
    _compare(expected, header.height, header.width, header.components, header.precision)


def check_jpeg_2000(frame: bytes, expected: Expected) -> None:
    """Checks a JPEG 2000 frame.

    Args:
        frame: The codestream.
        expected: What the data set says.

    Raises:
        ValueError: They differ, or the frame is truncated.
    """
    if not frame.startswith(_J2K_SIGNATURE) or len(frame) < 4 + _J2K_SIZE_LENGTH:
        raise ValueError("the frame is no JPEG 2000 codestream")
    if _J2K_END not in frame[-_J2K_PADDING:]:  # coded data never holds these two bytes
        raise ValueError("the frame is truncated")
    right, bottom, left, top = (int.from_bytes(frame[at : at + 4], "big") for at in (8, 12, 16, 20))
    components = int.from_bytes(frame[40:42], "big")
    _compare(expected, bottom - top, right - left, components, (frame[42] & 0x7F) + 1)


def check_rle(frame: bytes, expected: Expected) -> None:
    """Checks an RLE frame, whose 2 bytes can become 128.

    Args:
        frame: The header and the segments.
        expected: What the data set says.

    Raises:
        ValueError: A segment would become longer than the picture is.
    """
    count = int.from_bytes(frame[:4], "little")
    if len(frame) < _RLE_HEADER or count != expected.samples * expected.bits_allocated // 8:
        raise ValueError("the frame has another number of segments than the picture has bytes a pixel")
    starts = [int.from_bytes(frame[4 * at : 4 * at + 4], "little") for at in range(1, count + 1)]
    for start, end in zip(starts, [*starts[1:], len(frame)], strict=True):
        _check_segment(frame[start:end], expected.rows * expected.columns + _RLE_SLACK)


def _check_segment(segment: bytes, longest: int) -> None:
    """Adds up how long the runs of a segment become (PS3.5, section G.3.2)."""
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
            raise ValueError("a segment is longer than the picture")


def _compare(expected: Expected, height: int, width: int, components: int, precision: int) -> None:
    same = (height, width, components) == (expected.rows, expected.columns, expected.samples)
    if not same or precision > expected.bits_allocated:
        raise ValueError("the frame declares another picture than the data set around it")
