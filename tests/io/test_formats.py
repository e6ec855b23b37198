from __future__ import annotations

import os
from pathlib import Path

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.formats import check_size, is_dicom, is_radiograph_file, sniff, stem_of

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
