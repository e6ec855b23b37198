from __future__ import annotations

import dataclasses
import struct

import cv2
import numpy as np
import pytest

from anomalib_xray.io.codestream import Expected, check_jpeg, check_jpeg_2000, check_rle

GREY = cv2.resize(np.random.default_rng(0).integers(0, 256, (5, 4), dtype=np.uint8), (16, 20))
EXPECTED = Expected(rows=20, columns=16, samples=1, bits_allocated=8)
LARGE = cv2.resize(GREY, (128, 160))  # OpenCV writes no smaller JPEG 2000
EXPECTED_LARGE = dataclasses.replace(EXPECTED, rows=160, columns=128)


def others(expected: Expected) -> list[Expected]:
    return [
        dataclasses.replace(expected, rows=expected.rows - 1),
        dataclasses.replace(expected, columns=expected.columns + 1),
        dataclasses.replace(expected, samples=3),
        dataclasses.replace(expected, bits_allocated=1),
    ]


def jpeg_2000() -> bytes:
    """The codestream out of a JP2 file."""
    content = cv2.imencode(".jp2", LARGE)[1].tobytes()
    return content[content.index(b"\xff\x4f\xff\x51") :]


def rle(*segments: bytes, count: int | None = None) -> bytes:
    starts = np.cumsum([64, *map(len, segments)])[:-1]
    header = [len(segments) if count is None else count, *starts.tolist()]
    return struct.pack("<16L", *header, *[0] * (16 - len(header))) + b"".join(segments)


def test_a_jpeg_frame_must_be_the_picture_that_the_data_set_describes() -> None:
    frame = cv2.imencode(".jpg", GREY)[1].tobytes()
    check_jpeg(frame + b"\0", EXPECTED)
    for other in others(EXPECTED):
        with pytest.raises(ValueError, match="another picture"):
            check_jpeg(frame, other)
    for broken in (b"", frame[:100], frame[:-2]):
        with pytest.raises(ValueError, match="truncated"):
            check_jpeg(broken, EXPECTED)


def test_a_jpeg_2000_frame_must_be_the_picture_that_the_data_set_describes() -> None:
    frame = jpeg_2000()
    check_jpeg_2000(frame, EXPECTED_LARGE)
    check_jpeg_2000(frame + b"\xff", EXPECTED_LARGE)
    for other in others(EXPECTED_LARGE):
        with pytest.raises(ValueError, match="another picture"):
            check_jpeg_2000(frame, other)
    with pytest.raises(ValueError, match="truncated"):
        check_jpeg_2000(frame[:-2], EXPECTED_LARGE)
    for broken in (b"", frame[:30], frame[1:]):
        with pytest.raises(ValueError, match="no JPEG 2000"):
            check_jpeg_2000(broken, EXPECTED_LARGE)


def test_an_rle_frame_must_not_grow_beyond_the_picture() -> None:
    literal = bytes([127, *range(128)])  # 128 bytes as they are
    run = bytes([257 - 100, 7])  # 100 times 7
    check_rle(rle(literal + run + run), EXPECTED)
    check_rle(rle(literal * 2 + b"\x80" + run), EXPECTED)
    check_rle(rle(literal, run), dataclasses.replace(EXPECTED, bits_allocated=16))
    with pytest.raises(ValueError, match="longer"):
        check_rle(rle(run * 6), EXPECTED)
    with pytest.raises(ValueError, match="longer"):
        check_rle(rle(run, literal * 5), dataclasses.replace(EXPECTED, bits_allocated=16))
    for broken in (b"", rle(run)[:50], rle(run, run), rle(run, count=2**32 - 1)):
        with pytest.raises(ValueError, match="number of segments"):
            check_rle(broken, EXPECTED)
