"""What a JPEG stream says about itself, without decoding it (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

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
    """The frame header of a JPEG or JPEG-LS stream.

    Attributes:
        height: In pixels.
        width: In pixels.
        components: Number of channels.
        precision: Bits of a sample.
        kind: Byte behind ``FF`` in the header's marker, which tells the process: C0 baseline, C1 extended, F7 JPEG-LS.
    """

    height: int
    width: int
    components: int
    precision: int
    kind: int = field(default=0, compare=False)


def jpeg_frame(content: bytes) -> JpegFrame | None:
    """Reads the frame header, found by walking over the segments before it.

    Args:
        content: The stream, from its first byte.

    Returns:
        The frame header, or None if the stream has none.
    """
    position = 2
    while position + 10 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker in _START_OF_FRAME:
            return JpegFrame(
                height=int.from_bytes(content[position + 5 : position + 7], "big"),
                width=int.from_bytes(content[position + 7 : position + 9], "big"),
                components=content[position + 9],
                precision=content[position + 4],
                kind=marker,
            )
        position = _behind(content, position)
    return None


def jpeg_is_plain(content: bytes) -> bool:
    """Whether decoders have nothing to complain about before the first scan.

    gdcm ends the whole process at a mere warning about the header (gdcmJPEGBITSCodec: ``assert`` behind
    ``num_warnings``).

    Args:
        content: The stream, from its first byte.

    Returns:
        Whether the segments up to the first scan are of common kinds and follow each other without a gap, and versions
        and colour transforms in them are known ones.
    """
    position = 2
    while position + 4 <= len(content) and content[position] == 0xFF:
        marker, end = content[position + 1], _behind(content, position)
        segment = content[position + 4 : end]
        if marker == _START_OF_SCAN:
            return True
        if marker not in _EXPECTED_BEFORE_SCAN:
            return False
        if marker == _JFIF and segment.startswith(b"JFIF") and segment[5:6] != b"\x01":
            return False
        if marker == _ADOBE and segment.startswith(b"Adobe") and segment[11:12] not in (b"\0", b"\1", b"\2"):
            return False
        position = end
    return False


def jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Reads the size from the frame header.

    Args:
        content: The stream, from its first byte.

    Returns:
        Height and width in pixels, or None if the stream has no frame header.
    """
    frame = jpeg_frame(content)
    return None if frame is None else (frame.height, frame.width)


def jpeg_ends(content: bytes) -> bool:
    """Whether the stream goes on to its end marker; what lies behind that does not matter.

    Decoders fill what is missing of a truncated stream with grey. Damage inside the coded data is not found: JPEG has
    no checksum.

    Args:
        content: The stream, from its first byte.

    Returns:
        Whether the end marker stands where one is due, behind a number of scans that a camera or detector writes.
    """
    position, scans = 2, 0
    while position + 2 <= len(content) and content[position] == 0xFF and scans <= _MOST_SCANS:
        marker = content[position + 1]
        if marker == _END_OF_IMAGE:
            return scans > 0
        position = _behind(content, position)
        if marker == _START_OF_SCAN:
            scans += 1
            found = _MARKER_BEHIND_SCAN.search(content, position)
            if found is None:
                return False
            position = found.start()
    return False


def _behind(content: bytes, position: int) -> int:
    """Position behind the segment whose marker stands at ``position``."""
    marker = content[position + 1]
    if marker == 0xFF:  # a fill byte
        return position + 1
    if marker in _WITHOUT_LENGTH:
        return position + 2
    return position + 2 + int.from_bytes(content[position + 2 : position + 4], "big")
