"""Which files hold radiographs, and how large they may be. Light: commands list files before they read any."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from anomalib_xray.errors import XrayError
from anomalib_xray.io.jpeg import JPEG_SIGNATURE
from anomalib_xray.io.png import PNG_SIGNATURE

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".dic"})
"""Endings, in lower case, of the files that a folder is searched for; reading itself goes by content."""

MAX_PIXELS = 100_000_000
"""The largest flat-panel detectors have about 20 million pixels."""
MAX_BYTES = 400_000_000
"""An uncompressed 16-bit colour picture of nearly :data:`MAX_PIXELS`."""

HEAD_BYTES = 512
"""How much of a file is enough to tell its format."""

_UNFINISHED = frozenset({".tmp", ".part", ".partial", ".crdownload"})
_DICOMDIR = b"1.2.840.10008.1.3.10"  # UID of the class of a table of contents, near the beginning of its file
_DICOM_PREFIX = b"DICM"
_DICOM_PREAMBLE = 128  # bytes before the prefix, with any content


def is_dicom(content: bytes) -> bool:
    """Whether a file is DICOM.

    Args:
        content: The file, or as much of its beginning as 132 bytes.

    Returns:
        Whether it has the prefix of a DICOM file (PS3.10, section 7.1).
    """
    return content[_DICOM_PREAMBLE : _DICOM_PREAMBLE + len(_DICOM_PREFIX)] == _DICOM_PREFIX


def sniff(head: bytes) -> str:
    """Format of a file by its content.

    Args:
        head: The file, or its first :data:`HEAD_BYTES` bytes.

    Returns:
        ``dicom``, ``png`` or ``jpeg``; empty for anything else, such as the table of contents that a disk of DICOM
        files has (DICOMDIR).
    """
    if is_dicom(head):
        return "" if _DICOMDIR in head[:HEAD_BYTES] else "dicom"
    if head.startswith(PNG_SIGNATURE):
        return "png"
    return "jpeg" if head.startswith(JPEG_SIGNATURE) else ""


def is_radiograph_file(path: Path, *, regular: bool = False) -> bool:
    """Whether a file in a searched folder is to be read as a radiograph.

    Args:
        path: The file. It is opened only if its name does not end in one of :data:`SUFFIXES`, because archives give
            DICOM files any ending or none (``IM000001``, ``1.2.840.5``, ``a.IMA``); pipes and devices never are.
        regular: Whether it is known to be a file, neither link nor pipe, so that the disk need not be asked.

    Returns:
        Whether it has such an ending, so that a damaged file is not passed over, or else whether its content is a PNG,
        JPEG or DICOM file. Never for hidden files, such as those that macOS leaves beside others (``._image1.png``),
        and for unfinished ones (``.tmp``, ``.part``). A link counts as what it leads to; one that leads nowhere
        counts by its name, so that the reader says what became of it, and so does a file that cannot be opened.
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
    """A file's name without the ending of a radiograph.

    Args:
        name: Name of a file.

    Returns:
        The name without one of :data:`SUFFIXES`. Other names are kept whole: the last number of a file that is named by
        its UID is no ending.
    """
    stem, dot, ending = name.rpartition(".")
    return stem if stem and f"{dot}{ending}".lower() in SUFFIXES else name


def check_size(height: int, width: int, *, name: str, max_pixels: int) -> None:
    """Refuses a picture that is too large, or has no size, before anything is decoded.

    Args:
        height: As the file declares it, in pixels.
        width: As the file declares it, in pixels.
        name: What the message calls the file.
        max_pixels: Limit of their product.

    Raises:
        XrayError: The picture has no pixels or more than the limit.
    """
    if height < 1 or width < 1:
        raise XrayError(f"{name} is damaged or truncated: its header has no picture size; replace the file.")
    if height * width > max_pixels:
        raise XrayError(f"{name} declares {width} x {height} pixels; at most {max_pixels} pixels are decoded.")
