from __future__ import annotations

import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest

from anomalib_xray.io.png import PNG_SIGNATURE, picture_chunks, png_size
from anomalib_xray.io.read import decode_radiograph

PICTURE = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
PLAIN = cv2.imencode(".png", PICTURE)[1].tobytes()
HEADER_END = len(PNG_SIGNATURE) + 25


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def test_size_is_read_from_the_header() -> None:
    assert png_size(PLAIN) == (6, 8)
    assert png_size(PLAIN[:20]) is None
    assert png_size(PNG_SIGNATURE + chunk(b"tEXt", b"a" * 30)) is None


def test_a_file_of_picture_chunks_is_passed_as_it_is() -> None:
    assert picture_chunks(PLAIN) is PLAIN


def test_other_chunks_and_what_follows_the_end_are_left_out() -> None:
    comment = chunk(b"tEXt", b"name\0value")
    end = PLAIN.index(b"IEND") - 4
    content = PLAIN[:HEADER_END] + comment + PLAIN[HEADER_END:end] + comment + comment + PLAIN[end:] + b"trailing"
    assert picture_chunks(content) == PLAIN


@pytest.mark.parametrize("kept", range(len(PNG_SIGNATURE), len(PLAIN), 3))
def test_without_its_end_chunk_a_file_is_none(kept: int) -> None:
    assert picture_chunks(PLAIN[:kept]) is None


def test_a_length_that_leads_out_of_the_file_is_none() -> None:
    position = PLAIN.index(b"IDAT") - 4
    assert picture_chunks(PLAIN[:position] + b"\x40\0\0\0" + PLAIN[position + 4 :]) is None


def test_chunks_without_end_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomalib_xray.io.png._MOST_CHUNKS", 50)
    content = PLAIN[:HEADER_END] + chunk(b"tEXt", b"") * 50 + PLAIN[HEADER_END:]
    assert picture_chunks(content) is None


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_a_bomb_in_a_comment_or_profile_takes_no_memory(kind: bytes) -> None:
    bomb = chunk(kind, b"name\0\0" + zlib.compress(bytes(50_000_000)))
    content = PLAIN[:HEADER_END] + bomb + PLAIN[HEADER_END:]
    code = (
        "import resource, sys; from anomalib_xray.io.read import decode_radiograph; "
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; content = sys.stdin.buffer.read(); "
        "before = peak(); decode_radiograph(content, name='a'); print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, check=True)
    assert int(done.stdout) < 20_000  # kilobytes
    np.testing.assert_array_equal(decode_radiograph(content, name="a"), PICTURE)
