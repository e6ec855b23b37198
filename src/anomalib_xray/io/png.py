"""What a PNG file says about itself, without decoding it (ISO/IEC 15948)."""

from __future__ import annotations

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_AROUND_DATA = 12  # bytes of a chunk's length, kind and checksum
_MOST_CHUNKS = 200_000
"""Writers divide the pixels into chunks of 8 kilobytes at least."""
_ANCILLARY = 0x20  # bit of the first letter of a chunk's kind


def png_size(content: bytes) -> tuple[int, int] | None:
    """Reads the size from the header chunk, which is always the first one.

    Args:
        content: The file, from its signature.

    Returns:
        Height and width in pixels, or None if the header is missing.
    """
    if len(content) < 24 or content[12:16] != b"IHDR":
        return None
    return int.from_bytes(content[20:24], "big"), int.from_bytes(content[16:20], "big")


def picture_chunks(content: bytes) -> bytes | None:
    """Reduces a file to the chunks that hold its picture.

    Comments, profiles, thumbnails and further frames of an animation have no influence on the pixels, but decoders make
    room for them, and for a chunk of any length that the file declares.

    Args:
        content: The file, from its signature.

    Returns:
        The file without ancillary chunks and without what follows its end chunk, or None if that is missing or
        there are too many chunks.
    """
    view = memoryview(content)
    pieces: list[memoryview] = []
    start = 0  # of the chunks to keep that follow each other
    position = len(PNG_SIGNATURE)
    for _ in range(_MOST_CHUNKS):
        if position + _AROUND_DATA > len(content):
            break
        end = position + _AROUND_DATA + int.from_bytes(content[position : position + 4], "big")
        if content[position + 4] & _ANCILLARY:
            pieces.append(view[start:position])
            start = end
        elif content[position + 4 : position + 8] == b"IEND":
            return b"".join([*pieces, view[start:end]]) if pieces or end < len(content) else content
        position = end
    return None
