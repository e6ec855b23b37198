from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from anomalib_xray.app.answer import Planes, split_message
from anomalib_xray.errors import XrayError


def test_planes_lie_where_the_header_says_and_typed_arrays_can_start() -> None:
    planes = Planes()
    grey = np.arange(15, dtype=np.uint8).reshape(3, 5)
    deep = np.arange(6, dtype=">u2").reshape(2, 3)  # bytes of another order arrive as values, not as bytes
    raw = np.array([[0.5, -1.25]], np.float32)
    entries = [planes.add(plane) for plane in (grey, deep, raw)]
    message = planes.message({"entries": entries, "name": "Ä"})
    (length,) = struct.unpack("<I", message[:4])
    header = json.loads(message[4 : 4 + length].decode())
    assert header["name"] == "Ä"
    for entry, plane in zip(header["entries"], (grey, deep, raw), strict=True):
        start = 4 + length + entry["offset"]
        assert start % 8 == 0
        count = entry["height"] * entry["width"]
        values = np.frombuffer(message, np.dtype(entry["type"]).newbyteorder("<"), count, start)
        np.testing.assert_array_equal(values.reshape(plane.shape), plane)


def test_numbers_that_json_lacks_are_not_sent() -> None:
    with pytest.raises(ValueError, match="JSON"):
        Planes().message({"value": float("nan")})


def test_a_message_comes_apart_again() -> None:
    planes = Planes()
    planes.add(np.array([[1, 2, 3]], np.uint8))
    header, payload = split_message(planes.message({"width": 3}))
    assert header == {"width": 3}
    assert bytes(payload[:3]) == b"\1\2\3"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\1\0\0",
        b"\xff\xff\xff\xff{}",
        struct.pack("<I", 9) + b"{}",
        struct.pack("<I", 2) + b"[]",
        struct.pack("<I", 2) + b"{\xff",
        struct.pack("<I", 60000) + b"[" * 60000,
        struct.pack("<I", 70000) + b"{" + b" " * 69998 + b"}",
    ],
)
def test_what_is_no_message_is_one_sentence(message: bytes) -> None:
    with pytest.raises(XrayError, match="The request is damaged"):
        split_message(message)
