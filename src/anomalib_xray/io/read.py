"""Read a radiograph file as one grey channel, and scale it to [0, 1]."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError

Radiograph: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16]

MAX_PIXELS = 100_000_000
"""The largest flat-panel detectors have about 20 million pixels."""
MAX_BYTES = 400_000_000
"""An uncompressed 16-bit colour picture of nearly :data:`MAX_PIXELS`."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..15 without DHT, JPG and DAC
_JPEG_MARKERS_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})  # TEM, RST0..7, SOI
_FAINTEST_FOREGROUND = np.float32(1 / 255)


def read_radiograph(path: str | Path, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> Radiograph:
    """Reads a PNG or JPEG file.

    Args:
        path: The file; its format is recognised by content, its name does not matter.
        max_pixels: Larger pictures are refused before they are decoded.
        max_bytes: Larger files are refused before they are read.

    Returns:
        The picture, (H, W), uint8 or uint16 as stored; colour becomes weighted grey, an alpha channel is dropped.

    Raises:
        XrayError: The file is missing, too large, of another format, or damaged.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise XrayError(f"{path} has {size} bytes; at most {max_bytes} are read.")
        content = path.read_bytes()
    except OSError as error:
        raise XrayError(f"{path} cannot be read: {error.strerror}.") from error
    return decode_radiograph(content, name=str(path), max_pixels=max_pixels)


def decode_radiograph(content: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> Radiograph:
    """Decodes the content of a PNG or JPEG file.

    Args:
        content: The whole file.
        name: What messages call it, for example the path.
        max_pixels: Larger pictures are refused before they are decoded.

    Returns:
        The picture, (H, W), uint8 or uint16 as stored; colour becomes weighted grey, an alpha channel is dropped.

    Raises:
        XrayError: The content is of another format, too large, or damaged.
    """
    height, width = _declared_size(content, name)
    if height * width > max_pixels:
        raise XrayError(f"{name} declares {width} x {height} pixels; at most {max_pixels} pixels are decoded.")
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise XrayError(f"{name} is damaged or truncated and cannot be decoded; replace the file.")
    return _one_channel(cast("Radiograph", image))


def to_unit_interval(image: Radiograph) -> NDArray[np.float32]:
    """Scales a radiograph to [0, 1]; background stays 0 and foreground stays visible in 8 bits.

    An 8-bit picture is divided by 255. A 16-bit picture is divided by its own maximum, because detectors store 10 to 14
    bits in 16 and a division by 65535 would leave such a picture nearly black.

    Args:
        image: (H, W), uint8 or uint16.

    Returns:
        (H, W), float32: exactly 0 where ``image`` is 0, and in [1/255, 1] elsewhere.

    Raises:
        XrayError: The picture has another depth.
    """
    if image.dtype == np.uint8:
        return image.astype(np.float32) / np.float32(255)
    if image.dtype == np.uint16:
        brightest = max(int(image.max(initial=0)), 1)
        unit = image.astype(np.float32) / np.float32(brightest)
        return np.where(image > 0, np.maximum(unit, _FAINTEST_FOREGROUND), np.float32(0))
    raise XrayError(f"a picture of type {image.dtype} cannot be scaled; only uint8 and uint16 are radiographs.")


def _declared_size(content: bytes, name: str) -> tuple[int, int]:
    """Height and width in pixels from the file's header."""
    if content.startswith(_PNG_SIGNATURE):
        size = _png_size(content)
    elif content.startswith(_JPEG_SIGNATURE):
        size = _jpeg_size(content)
    else:
        raise XrayError(f"{name} is neither a PNG nor a JPEG file; convert it to PNG.")
    if size is None or 0 in size:
        raise XrayError(f"{name} is damaged or truncated: its header has no picture size; replace the file.")
    return size


def _png_size(content: bytes) -> tuple[int, int] | None:
    """Height and width from the IHDR chunk, which is always the first one."""
    if len(content) < 24 or content[12:16] != b"IHDR":
        return None
    return int.from_bytes(content[20:24], "big"), int.from_bytes(content[16:20], "big")


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Height and width from the frame header, found by walking over the segments before it."""
    position = 2
    while position + 9 <= len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker in _JPEG_FRAME_MARKERS:
            height, width = content[position + 5 : position + 7], content[position + 7 : position + 9]
            return int.from_bytes(height, "big"), int.from_bytes(width, "big")
        elif marker in _JPEG_MARKERS_WITHOUT_LENGTH:
            position += 2
        else:
            position += 2 + int.from_bytes(content[position + 2 : position + 4], "big")
    return None


def _one_channel(image: Radiograph) -> Radiograph:
    """Weighted grey of what OpenCV decoded: (H, W), or (H, W, 3 or 4) in the order BGR(A)."""
    if image.ndim == 2:
        return image
    return cast("Radiograph", cv2.cvtColor(image[:, :, :3], cv2.COLOR_BGR2GRAY))
