"""One message of a JSON header and raw planes, so that the browser gets pixels and heat maps as they are.

Layout: the length of the header in bytes (4 bytes, little-endian), the header (UTF-8), then the planes one behind the
other, each at a multiple of 8 bytes from the end of the header, which is padded with spaces to such a multiple itself.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError

_ALIGNMENT = 8
"""Typed arrays of a browser start at a multiple of their element's size."""
_LENGTH = struct.Struct("<I")
_LONGEST_HEADER = 65536
"""Bytes of a header that is read."""


class Planes:
    """Planes of one message, collected while its header is made."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, plane: NDArray[Any]) -> dict[str, Any]:
        """Puts a plane (H, W), uint8, uint16 or float32, into the message; returns what the header says of it."""
        content = np.ascontiguousarray(plane, plane.dtype.newbyteorder("<")).tobytes()
        entry = {
            "offset": self._size,
            "height": plane.shape[0],
            "width": plane.shape[1],
            "type": plane.dtype.name,
        }
        self._pieces.append(content + bytes(-len(content) % _ALIGNMENT))
        self._size += len(self._pieces[-1])
        return entry

    def message(self, header: dict[str, Any]) -> bytes:
        """Puts the message together; numbers of the header must be finite."""
        text = json.dumps(header, allow_nan=False).encode()
        text += b" " * (-(len(text) + _LENGTH.size) % _ALIGNMENT)
        return b"".join([_LENGTH.pack(len(text)), text, *self._pieces])


def opened(message: bytes) -> tuple[dict[str, Any], memoryview]:
    """Takes a message apart into its header and all that follows it.

    Raises:
        XrayError: It is no such message.
    """
    if len(message) >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(message)
        end = _LENGTH.size + length
        if length <= _LONGEST_HEADER and end <= len(message):
            try:
                header = json.loads(message[_LENGTH.size : end])
            except (ValueError, RecursionError):
                header = None
            if isinstance(header, dict):
                return header, memoryview(message)[end:]
    raise XrayError("The request is damaged: send it from the viewer's own page.")
