"""Which files hold radiographs, and how large they may be. Light: commands list files before they read any."""

from __future__ import annotations

from pathlib import Path

from anomalib_xray.errors import XrayError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".dcm", ".dicom", ".dic"})
"""Endings, in lower case, of the files that a folder is searched for; reading itself goes by content."""

MAX_PIXELS = 100_000_000
"""The largest flat-panel detectors have about 20 million pixels."""
MAX_BYTES = 400_000_000
"""An uncompressed 16-bit colour picture of nearly :data:`MAX_PIXELS`."""

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


def is_radiograph_file(path: Path) -> bool:
    """Whether a file in a searched folder is to be read as a radiograph.

    Args:
        path: The file. It is opened only if its name says nothing: archives export DICOM files that are named
            ``IM000001`` or by a UID, whose last number looks like an ending.

    Returns:
        Whether the name ends in one of :data:`SUFFIXES`, or says nothing and the content is DICOM.
    """
    # macOS leaves "._image1.png" beside an image on foreign disks; a DICOMDIR is a table of contents.
    if path.name.startswith("._") or path.name.upper() == "DICOMDIR":
        return False
    if path.suffix and not path.suffix[1:].isdigit():
        return path.suffix.lower() in SUFFIXES
    try:
        if not path.is_file():  # waiting for what a pipe may bring would never end
            return False
        with path.open("rb") as file:
            return is_dicom(file.read(_DICOM_PREAMBLE + len(_DICOM_PREFIX)))
    except OSError:
        return False


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
