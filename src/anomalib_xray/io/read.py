"""Radiograph files as one grey channel, scaled to [0, 1]."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io import formats
from anomalib_xray.io.dicom import decode_dicom
from anomalib_xray.io.formats import MAX_BYTES, MAX_PIXELS, PNG_SIGNATURE, check_size
from anomalib_xray.io.jpeg import JPEG_SIGNATURE, jpeg_ends, jpeg_frame, jpeg_lacks_data
from anomalib_xray.io.paths import read_bytes
from anomalib_xray.io.radiograph import Radiograph

__all__ = [
    "MAX_BYTES", "MAX_PIXELS", "Radiograph", "decode_radiograph", "read_anomaly_mask", "read_bytes", "read_radiograph",
    "to_unit_interval",
]  # fmt: skip

logger = logging.getLogger(__name__)

_FEW_LABELS, _MOST_LABELS = 8, 64
_FAINTEST_FOREGROUND = np.float32(1 / 255)


def read_radiograph(
    path: str | Path, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES, notes: list[str] | None = None
) -> Radiograph:
    """Read a PNG, JPEG or DICOM file, recognised by its content whatever its name.

    Args:
        path: The file.
        max_pixels: Larger pictures are refused before they are decoded.
        max_bytes: Larger files are refused before they are read.
        notes: As of :func:`decode_radiograph`.

    Returns:
        The picture (H, W), uint8 or uint16, as :func:`decode_radiograph` describes it.

    Raises:
        XrayError: The file is missing, too large, of another format, or damaged; or pydicom is needed and missing.
    """
    return decode_radiograph(read_bytes(path, max_bytes=max_bytes), name=str(path), max_pixels=max_pixels, notes=notes)


def decode_radiograph(
    content: bytes, *, name: str, max_pixels: int = MAX_PIXELS, notes: list[str] | None = None
) -> Radiograph:
    """Decode the content of a PNG, JPEG or DICOM file.

    PNG and JPEG give the pixels as stored: colour becomes weighted grey (ITU-R BT.601), an alpha channel is dropped,
    and an orientation in the EXIF data is ignored, so that masks and marked findings keep their places. DICOM is
    described at :func:`anomalib_xray.io.dicom.decode_dicom`.

    Args:
        content: The whole file.
        name: Name of the file in messages, for example its path.
        max_pixels: Larger pictures are refused before they are decoded.
        notes: List to which notes on a DICOM header are added, short words that go with the flags of the preparation.

    Returns:
        The picture, (H, W), uint8 or uint16.

    Raises:
        XrayError: The content is of another format, too large, or damaged; or pydicom is needed and missing.

    >>> decode_radiograph(cv2.imencode(".png", np.array([[0, 255]], np.uint8))[1].tobytes(), name="a.png")
    array([[  0, 255]], dtype=uint8)
    """
    if formats.is_dicom(content):
        return decode_dicom(content, name=name, max_pixels=max_pixels, notes=notes)
    if content.startswith(PNG_SIGNATURE):
        size, whole = formats.png_size(content), formats.picture_chunks(content)
    elif content.startswith(JPEG_SIGNATURE):
        frame = jpeg_frame(content)
        size, whole = (frame.height, frame.width) if frame else None, content if jpeg_ends(content) else None
    else:
        raise XrayError(f"{name} {_what_else(content)}")
    check_size(*(size or (0, 0)), name=name, max_pixels=max_pixels)
    image = _decoded(whole) if whole else None
    is_jpeg = content.startswith(JPEG_SIGNATURE)
    if image is None and is_jpeg and whole and (kind := _undecoded_kind(whole)):
        raise XrayError(f"{name} is a {kind}, which is not decoded outside of DICOM; convert it to PNG.")
    if image is None or (is_jpeg and jpeg_lacks_data(content, image, _decoded)):
        raise XrayError(f"{name} is damaged or truncated and cannot be decoded; replace the file.")
    # OpenCV decodes colour to (H, W, 3 or 4) in the order BGR(A).
    return image if image.ndim == 2 else cast("Radiograph", cv2.cvtColor(image[:, :, :3], cv2.COLOR_BGR2GRAY))


def _decoded(content: bytes) -> Radiograph | None:
    try:
        return cast("Radiograph | None", cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED))
    except cv2.error:
        return None


def _undecoded_kind(content: bytes) -> str:
    """The unusual kind of a whole JPEG stream; empty if it is a usual one."""
    frame = jpeg_frame(content)
    if frame is None:
        return ""
    kind = {0xF7: "JPEG-LS", **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "lossless JPEG")}.get(frame.kind, "")
    if not kind and frame.kind > 0xC7:  # the last one of Huffman coding
        kind = "JPEG with arithmetic coding"
    if not kind and frame.precision != 8:
        kind = "JPEG"
    return kind and f"{kind} of {frame.precision} bits"


_NO_PICTURES = {
    b"version https://git-lfs": "is a pointer of Git LFS and not the picture itself; fetch that with git lfs pull.",
    b"/annex/objects/": "is a pointer of git-annex and not the picture itself; fetch that with git annex get.",
    b"<!doctype": "is a web page, such as a server's message instead of a file; download it again.",
    b"<html": "is a web page, such as a server's message instead of a file; download it again.",
    b"<?xml": "is XML, such as a server's message instead of a file; download it again.",
    b"\x1f\x8b": "is packed with gzip; unpack it.",
    b"pk\x03\x04": "is a ZIP archive; unpack it.",
}
"""Files in a picture's place, by how they begin in small letters."""


def _what_else(content: bytes) -> str:
    """The kind of a file that is not a picture, and the way out, as the predicate of a sentence."""
    if not content:
        return "is empty; copy or download it again."
    start = content[:64].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for beginning, what in _NO_PICTURES.items():
        if start.startswith(beginning):
            return what
    if not any(content):
        return "holds nothing but zeros; copy or download it again."
    return "is neither a PNG nor a JPEG nor a DICOM file; convert it to PNG."


def read_anomaly_mask(path: str | Path) -> NDArray[np.bool_]:
    """Read the mask of the pixels (H, W) of a radiograph that somebody marked as anomalous.

    In a PNG, JPEG or DICOM file 0 is normal, anything else is anomalous, as in a map of labels. If a lossy format or a
    smooth outline left levels in between, a pixel is anomalous from half of the brightest one on.

    Raises:
        XrayError: The file cannot be read.
    """
    content = read_bytes(path)
    mask = decode_radiograph(content, name=str(path))
    levels = np.unique(mask)
    brightest = int(levels[-1])
    is_lossy = content.startswith(JPEG_SIGNATURE) and len(levels) > 2
    # Labels are few or small numbers; what is in between is many levels of a large range.
    if brightest > _MOST_LABELS and (is_lossy or len(levels) > _FEW_LABELS):
        if not is_lossy:
            logger.warning("%s has %d grey levels; pixels from half of the brightest on count.", path, len(levels))
        return np.asarray(2 * mask.astype(np.uint32) >= brightest)
    return np.asarray(mask > 0)


def to_unit_interval(image: Radiograph) -> NDArray[np.float32]:
    """Scale a radiograph to [0, 1]; background stays 0 and foreground stays visible in 8 bits.

    An 8-bit picture is divided by 255. A 16-bit picture is divided by its own maximum, because detectors store 10 to 14
    bits in 16 and a division by 65535 would leave such a picture nearly black.

    Args:
        image: (H, W), uint8 or uint16.

    Returns:
        (H, W), float32: exactly 0 where ``image`` is 0, and in [1/255, 1] elsewhere.

    Raises:
        XrayError: The picture has another depth.

    >>> to_unit_interval(np.array([[0, 1000, 4000]], np.uint16))
    array([[0.  , 0.25, 1.  ]], dtype=float32)
    """
    if image.dtype == np.uint8:
        return image.astype(np.float32) / np.float32(255)
    if image.dtype == np.uint16:
        brightest = max(int(image.max(initial=0)), 1)
        unit = image.astype(np.float32) / np.float32(brightest)
        return np.where(image > 0, np.maximum(unit, _FAINTEST_FOREGROUND), np.float32(0))
    raise XrayError(f"a picture of type {image.dtype} cannot be scaled; only uint8 and uint16 are radiographs.")
