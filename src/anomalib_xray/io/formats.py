"""Formats and limits of radiograph files. Light: commands list files before they read any."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

from anomalib_xray.errors import XrayError
from anomalib_xray.io.jpeg import JPEG_SIGNATURE

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".dic"})
"""Endings, in lower case, of the files that a folder is searched for; reading itself goes by content."""

MAX_PIXELS = 100_000_000
"""The largest flat-panel detectors have about 20 million pixels."""
MAX_BYTES = 400_000_000
"""An uncompressed 16-bit colour picture of nearly :data:`MAX_PIXELS`."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEAD_BYTES = 512
"""Length of a file's beginning that tells its format."""

_UNFINISHED = frozenset({".tmp", ".part", ".partial", ".crdownload"})
_DICOMDIR = b"1.2.840.10008.1.3.10"  # UID of the class of a table of contents, near the beginning of its file
DICOM_PREFIX = b"DICM"
DICOM_PREAMBLE = 128  # bytes before the prefix, with any content
_FIRST_GROUPS = frozenset({0x0002, 0x0008, 0x0010, 0x0018, 0x0020, 0x0028})
"""Groups that a file without preamble can begin with: the meta information, or what anonymisation left."""
_LONGEST_FIRST_VALUE = 256
_LONG_VR = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT_VR = frozenset(
    {
        b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
        b"ST", b"TM", b"UI", b"UL", b"US",
    }
)  # fmt: skip


def is_dicom(content: bytes) -> bool:
    """Whether a file, or its first :data:`HEAD_BYTES` bytes, is DICOM.

    It has the prefix of a DICOM file (PS3.10, section 7.1), or lacks preamble or prefix and begins with the meta
    information or the data set all the same.
    """
    behind = content[DICOM_PREAMBLE : DICOM_PREAMBLE + HEAD_BYTES]
    if behind.startswith(DICOM_PREFIX):
        return True
    start = content[: len(DICOM_PREFIX) + HEAD_BYTES].removeprefix(DICOM_PREFIX)
    return data_set_encoding(start) is not None or (
        behind.startswith(b"\x02\0") and data_set_encoding(behind) is not None
    )


def data_set_encoding(content: bytes) -> tuple[bool, bool] | None:
    """The encoding of a DICOM data set, told from its first two elements: little endian, explicit representations.

    None if it is not a data set.
    """
    for little, explicit in ((True, True), (True, False), (False, True)):
        order: Literal["little", "big"] = "little" if little else "big"
        tag, behind = _first_element(content, order, explicit=explicit)
        if not behind or tag >> 16 not in _FIRST_GROUPS:
            continue
        next_tag, next_behind = _first_element(content[behind:], order, explicit=explicit)
        if next_behind and tag < next_tag <= 0x7FE0FFFF:  # elements are sorted
            return little, explicit
        if explicit and behind > len(content) - _ELEMENT_HEADER:
            return little, explicit
    return None


_ELEMENT_HEADER = 8  # bytes of the shortest


def _first_element(content: bytes, order: Literal["little", "big"], *, explicit: bool) -> tuple[int, int]:
    """The tag of the first element of ``content``, and the position behind it; 0 if it is invalid."""
    tag = int.from_bytes(content[:2], order) << 16 | int.from_bytes(content[2:4], order)
    if len(content) < _ELEMENT_HEADER:
        return tag, 0
    if not explicit:
        length = int.from_bytes(content[4:8], order)
        return tag, 8 + length if length <= _LONGEST_FIRST_VALUE and length % 2 == 0 else 0
    vr = content[4:6]
    if vr in _SHORT_VR:
        return tag, 8 + int.from_bytes(content[6:8], order)
    return tag, 12 + int.from_bytes(content[8:12], order) if vr in _LONG_VR else 0


def sniff(head: bytes) -> str:
    r"""Format of a file by its first :data:`HEAD_BYTES` bytes: ``dicom``, ``png`` or ``jpeg``.

    Empty for anything else, such as the table of contents that a disk of DICOM files has (DICOMDIR).

    >>> sniff(b"\x89PNG\r\n\x1a\n"), sniff(b"GIF89a")
    ('png', '')
    """
    if is_dicom(head):
        return "" if _DICOMDIR in head[:HEAD_BYTES] else "dicom"
    if head.startswith(PNG_SIGNATURE):
        return "png"
    return "jpeg" if head.startswith(JPEG_SIGNATURE) else ""


def is_radiograph_file(path: Path, *, regular: bool = False) -> bool:
    """Whether a file in a searched folder is to be read as a radiograph.

    It has one of :data:`SUFFIXES`, so that a damaged file is not passed over, or else its content is a PNG, JPEG or
    DICOM file, because archives give DICOM files any ending or none (``IM000001``, ``1.2.840.5``, ``a.IMA``). Never
    pipes, devices, hidden files, such as those that macOS leaves beside others (``._image1.png``), and unfinished ones
    (``.tmp``, ``.part``). A link counts as its target; one that leads nowhere counts by its name, so that the reader
    explains it, and so does a file that cannot be opened.

    Args:
        path: The file.
        regular: Whether it is known to be a file, neither link nor pipe, so that the disk need not be asked.
    """
    ending = path.suffix.lower()
    if path.name.startswith(".") or path.name.upper() == "DICOMDIR" or ending in _UNFINISHED:
        return False
    try:
        if not regular and not stat.S_ISREG(path.stat().st_mode):
            return False
        if ending in SUFFIXES:
            return True
        with path.open("rb") as file:
            return sniff(file.read(HEAD_BYTES)) != ""
    except OSError:
        return os.path.lexists(path) and (ending in SUFFIXES or not ending[1:].isalpha())


def stem_of(name: str) -> str:
    """A file's name without one of :data:`SUFFIXES`; the last number of a file named by its UID is not an ending.

    >>> stem_of("a.b.PNG"), stem_of("1.2.840.5")
    ('a.b', '1.2.840.5')
    """
    stem, dot, ending = name.rpartition(".")
    return stem if stem and f"{dot}{ending}".lower() in SUFFIXES else name


def check_size(height: int, width: int, *, name: str, max_pixels: int) -> None:
    """Refuse a picture that is too large, or has no size, before anything is decoded."""
    if height < 1 or width < 1:
        raise XrayError(f"{name} is damaged or truncated: its header has no picture size; replace the file.")
    if height * width > max_pixels:
        raise XrayError(f"{name} declares {width} x {height} pixels; at most {max_pixels} pixels are decoded.")


_AROUND_DATA = 12  # bytes of a chunk's length, kind and checksum
_MOST_CHUNKS = 200_000
"""Writers divide the pixels into chunks of 8 kilobytes at least."""
_ANCILLARY = 0x20  # bit of the first letter of a chunk's kind


def png_size(content: bytes) -> tuple[int, int] | None:
    """Height and width by the header chunk, which is always the first one; None without it."""
    if len(content) < 24 or content[12:16] != b"IHDR":
        return None
    return int.from_bytes(content[20:24], "big"), int.from_bytes(content[16:20], "big")


def picture_chunks(content: bytes) -> bytes | None:
    """The file without ancillary chunks and the rest behind its end chunk; None without that, or with too many chunks.

    Comments, profiles, thumbnails and further frames of an animation have no influence on the pixels, but decoders make
    room for them, and for a chunk of any length that the file declares.
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
