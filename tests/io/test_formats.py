from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.formats import (
    PNG_SIGNATURE,
    check_size,
    is_dicom,
    is_radiograph_file,
    picture_chunks,
    png_size,
    sniff,
    stem_of,
)
from anomalib_xray.io.read import decode_radiograph

DICOM = b"\0" * 128 + b"DICM"


def test_dicom_is_known_by_its_prefix() -> None:
    assert is_dicom(DICOM)
    assert is_dicom(b"II*\0" + DICOM[4:] + b"more")
    assert not is_dicom(DICOM[:-1])
    assert not is_dicom(b"DICM" + b"\0" * 200)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.png", b"", True),
        ("a.JPG", b"", True),
        ("a.dcm", b"", True),
        ("a.txt", DICOM, True),
        ("a.txt", b"text", False),
        ("._a.png", b"", False),
        ("IM000001", DICOM, True),
        ("IM000001", b"", False),
        ("1.2.840.113619.2", DICOM, True),
        ("1.2.840.113619.2", b"12", False),
        ("DICOMDIR", DICOM, False),
    ],
)
def test_a_name_decides_and_where_it_says_nothing_the_content(
    tmp_path: Path, name: str, content: bytes, expected: bool
) -> None:
    (tmp_path / name).write_bytes(content)
    assert is_radiograph_file(tmp_path / name) is expected


def test_a_format_is_told_by_its_first_bytes() -> None:
    assert [sniff(head) for head in (DICOM, b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xdb", b"GIF89a", b"")] == [
        "dicom", "png", "jpeg", "", "",
    ]  # fmt: skip


def test_the_last_number_of_a_uid_is_no_ending() -> None:
    names = ("a.PNG", "a.b.dcm", "1.2.840.5", "a.IMA", ".png", "a", "1.2.840.5.dcm")
    assert [stem_of(name) for name in names] == ["a", "a.b", "1.2.840.5", "a.IMA", ".png", "a", "1.2.840.5"]


def test_what_is_no_file_is_no_radiograph(tmp_path: Path) -> None:
    assert not is_radiograph_file(tmp_path)
    assert not is_radiograph_file(tmp_path / "missing")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not is_radiograph_file(tmp_path / "pipe")


def test_size_is_between_one_pixel_and_the_limit() -> None:
    check_size(3, 4, name="a", max_pixels=12)
    with pytest.raises(XrayError, match="a declares 4 x 3 pixels; at most 11"):
        check_size(3, 4, name="a", max_pixels=11)
    for size in ((0, 4), (4, 0), (-2, -2)):
        with pytest.raises(XrayError, match="no picture size"):
            check_size(*size, name="a", max_pixels=12)


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
    monkeypatch.setattr("anomalib_xray.io.formats._MOST_CHUNKS", 50)
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
