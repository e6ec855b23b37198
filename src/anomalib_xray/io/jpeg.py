"""Headers of JPEG streams (ITU-T T.81, annex B), and the completeness of their coded data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

JPEG_SIGNATURE = b"\xff\xd8\xff"

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # without DHT, JPG, DAC; with JPEG-LS
_JFIF, _ADOBE = 0xE0, 0xEE
# Tables, restart interval, comment, parameters of JPEG-LS; SOF0..3 and that of JPEG-LS; APP0..15; a fill byte.
_EXPECTED_BEFORE_SCAN = frozenset({0xC4, 0xDB, 0xDD, 0xFE, 0xF8, *range(0xC0, 0xC4), 0xF7, *range(0xE0, 0xF0), 0xFF})
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})  # TEM, RST0..7, SOI
# In coded data a byte FF is followed by a zero (JPEG-LS: by a byte below 80), by a restart marker, or by a real marker.
_MARKER_BEHIND_SCAN = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
_MOST_SCANS = 100
"""Progressive encoders write about ten. Each costs a pass over the whole picture, however short it is."""


@dataclass(frozen=True)
class JpegFrame:
    """The frame header of a JPEG or JPEG-LS stream; ``kind`` is the byte behind ``FF``: C0 baseline, F7 JPEG-LS."""

    height: int
    width: int
    components: int
    precision: int
    kind: int = field(default=0, compare=False)


def _segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, position and end of each segment up to coded data."""
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker, end = content[position + 1], _behind(content, position)
        yield marker, position, end
        position = end


def jpeg_frame(content: bytes) -> JpegFrame | None:
    """Read the frame header, behind the segments before it; None without one."""
    for marker, position, _ in _segments(content):
        if marker in _START_OF_FRAME and position + 10 <= len(content):
            precision, height, width = content[position + 4], content[position + 5 :][:2], content[position + 7 :][:2]
            return JpegFrame(
                int.from_bytes(height, "big"), int.from_bytes(width, "big"), content[position + 9], precision, marker
            )
    return None


def jpeg_is_plain(content: bytes) -> bool:
    """Whether decoders have nothing to complain about before the first scan.

    That is: segments of common kinds, without a gap, with known versions and colour transforms. gdcm ends the whole
    process at a mere warning about the header (gdcmJPEGBITSCodec: ``assert`` behind ``num_warnings``).
    """
    for marker, position, end in _segments(content):
        segment = content[position + 4 : end]
        if marker == _START_OF_SCAN:
            return True
        if (
            marker not in _EXPECTED_BEFORE_SCAN
            or (marker == _JFIF and segment.startswith(b"JFIF") and segment[5:6] != b"\x01")
            or (marker == _ADOBE and segment.startswith(b"Adobe") and segment[11:12] not in (b"\0", b"\1", b"\2"))
        ):
            return False
    return False


def jpeg_ends(content: bytes) -> bool:
    """Whether the stream goes on to its end marker, with all scans that its frame needs.

    Decoders fill what is missing of a truncated stream with grey.
    """
    return _end(content) > 0


def jpeg_lacks_data(
    content: bytes, image: NDArray[Any], decode: Callable[[bytes], NDArray[Any] | None], *, bits: int = 8
) -> bool:
    """Whether there is less coded data than picture, though the stream :func:`ends <jpeg_ends>`.

    Programs that recover files put an end marker behind the data that they found. JPEG has no checksum, and no decoder
    passes on what it notices; but more data at the end changes a picture only if some was missing, and less does not if
    there is too much. Damage that leaves the amount of data as it was is not found, nor, in a progressive stream, a gap
    or a cut in the last scan.

    Args:
        content: The stream, from its first byte.
        image: The decoded picture, (H, W) or (H, W, 3).
        decode: Its decoder, which is called again if a doubt is left.
        bits: Bits of a sample.
    """
    end = _end(content)
    if not _has_all_restarts(content, end):
        return True
    if (image[-1, -_BLOCK:] == 1 << (bits - 1)).all():  # what decoders fill in; whole pictures seldom end in it
        other = decode(content[:end] + _MORE_DATA + content[end:])
        return other is not None and bool((image != other).any())
    if content[max(end - 2 * _BLOCK, 0) : end] != bytes(2 * _BLOCK) or not _coefficients(content):
        return False
    other = decode(content[: end - _BLOCK] + content[end:])
    return other is not None and bool((image == other).all())


def _has_all_restarts(content: bytes, end: int) -> bool:
    """Whether the restart markers of a stream with a single scan are all there, in their order."""
    interval, units, start = 0, 0, 0
    for marker, position, start in _segments(content):
        if marker == _RESTART_INTERVAL:
            interval = int.from_bytes(content[position + 4 : position + 6], "big")
        elif marker in _BY_COEFFICIENTS:
            units = _units(content[position + 4 : start])
        elif marker == _START_OF_SCAN:
            break
    if not interval or content.find(b"\xff\xda", start, end) >= 0:
        return True
    markers = _RESTART.findall(content, start, end)
    in_order = all(marker[1] & 7 == number % 8 for number, marker in enumerate(markers))
    return in_order and len(markers) >= -(-units // interval) - 1


def _units(frame: bytes) -> int:
    """Number of the units (MCU) that the picture of a frame header is coded in, all components together."""
    height, width, count = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big"), frame[5]
    factors = frame[7 : 6 + 3 * count : 3]
    across, down = (max((factor >> shift & 15 for factor in factors), default=1) or 1 for shift in (4, 0))
    if count == 1:  # then the factors do not matter
        across = down = 1
    return -(-width // (_BLOCK * across)) * -(-height // (_BLOCK * down))


_RESTART_INTERVAL = 0xDD
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_BLOCK = 8
_MORE_DATA = bytes(range(0x11, 0xF1)) * 2


def _end(content: bytes) -> int:
    """Position of the end marker; 0 without one, or if it is not behind all scans."""
    position, scans = 2, 0
    missing = _coefficients(content)
    while position + 2 <= len(content) and content[position] == 0xFF and scans <= _MOST_SCANS:
        marker = content[position + 1]
        if marker == _END_OF_IMAGE:
            return position if scans and not missing else 0
        behind = _behind(content, position)
        if marker == _START_OF_SCAN:
            scans += 1
            missing -= _completed(content[position + 4 : behind])
            found = _MARKER_BEHIND_SCAN.search(content, behind)
            if found is None:
                return 0
            behind = found.start()
        position = behind
    return 0


def _coefficients(content: bytes) -> set[tuple[int, int]]:
    """The coefficients that scans have to bring: the first one of each component, and all of the first component."""
    for marker, position, end in _segments(content):
        if marker in _START_OF_FRAME and position + 10 <= len(content):
            names = content[position + 10 : end : 3] if marker in _BY_COEFFICIENTS else b""
            return {(name, 0) for name in names} | {(name, index) for name in names[:1] for index in range(64)}
    return set()


_BY_COEFFICIENTS = frozenset({0xC0, 0xC1, 0xC2})  # not lossless, nor JPEG-LS


def _completed(header: bytes) -> set[tuple[int, int]]:
    """Components and coefficients that a scan brings to their last bit, by its header."""
    count = header[0] if header else 0
    if len(header) < 4 + 2 * count or header[3 + 2 * count] & 15:
        return set()
    first, last = header[1 + 2 * count], header[2 + 2 * count]
    return {(name, index) for name in header[1 : 1 + 2 * count : 2] for index in range(first, min(last, 63) + 1)}


def _behind(content: bytes, position: int) -> int:
    """Position behind the segment whose marker stands at ``position``."""
    marker = content[position + 1]
    if marker == 0xFF:  # a fill byte
        return position + 1
    if marker in _WITHOUT_LENGTH:
        return position + 2
    return position + 2 + int.from_bytes(content[position + 2 : position + 4], "big")
