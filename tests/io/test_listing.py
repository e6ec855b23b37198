from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.listing import list_radiographs

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff\xe0"
DICOM = b"\0" * 128 + b"DICM"


def write(path: Path, content: bytes = PNG) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def listed(root: Path, *left_out: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in list_radiographs(root, leave_out=left_out)]


def test_content_decides_where_the_ending_does_not(tmp_path: Path) -> None:
    for name, content in {
        "a.PNG": b"damaged", "b.IMA": DICOM, "c.dcm30": DICOM, "1.2.840.5": DICOM, "d": JPEG, "e.jfif": JPEG,
        "f.txt": PNG, "notes.txt": b"none", "g.IMA": b"none", "Thumbs.db": b"\xd0\xcf\x11\xe0", "half.tmp": PNG,
        "table.csv": b"", "DICOMDIR": DICOM, "contents": DICOM + b"\2\0\2\0UI\x14\x001.2.840.10008.1.3.10",
    }.items():  # fmt: skip
        write(tmp_path / name, content)
    assert listed(tmp_path) == ["1.2.840.5", "a.PNG", "b.IMA", "c.dcm30", "d", "e.jfif", "f.txt"]


def test_what_is_passed_over_is_counted_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (
        "a.png",
        "._a.png",
        ".DS_Store",
        "__MACOSX/x/._a.png",
        "@eaDir/a.png/SYNO.jpg",
        "$RECYCLE.BIN/a.png",
        "ground_truth/a.png",
    ):
        write(tmp_path / name)
    write(tmp_path / "notes.txt", b"none")
    write(tmp_path / ".git/annex/objects/a.png")
    with caplog.at_level(logging.WARNING):
        assert listed(tmp_path) == ["a.png"]
    assert "hidden files: 2 (first .DS_Store)" in caplog.text
    assert "files that are no PNG, JPEG or DICOM file: 1 (notes.txt)" in caplog.text
    assert "folders that hold no radiographs by their names: 5 (first $RECYCLE.BIN)" in caplog.text


def test_a_folder_of_radiographs_alone_needs_no_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a/b.png")
    assert listed(tmp_path) == ["a/b.png"]
    assert caplog.text == ""


def test_links_are_followed_in_the_manner_of_dvc_and_git_annex(tmp_path: Path) -> None:
    object_ = write(tmp_path / "cache/ab/cdef")
    root = tmp_path / "set"
    root.mkdir()
    (root / "a.png").symlink_to(object_)
    (root / "copy_of_a.png").symlink_to(object_)
    (root / "no_ending").symlink_to(object_)
    (root / "gone.png").symlink_to(tmp_path / "cache/ab/gone")
    (root / "gone.pdf").symlink_to(tmp_path / "cache/ab/gone")
    assert listed(root) == ["a.png", "copy_of_a.png", "gone.png", "no_ending"]


def test_linked_folders_are_searched_once_and_loops_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "root"
    write(tmp_path / "nas/hand/a.png")
    write(tmp_path / "secret.png")
    write(root / "real/b.png")
    (root / "hand").symlink_to("../nas/hand")
    (root / "hand_again").symlink_to("../nas/hand")
    (root / "first").symlink_to("real")  # its name comes before that of the folder itself
    (root / "real/up").symlink_to("../..")
    (tmp_path / "nas/hand/up").symlink_to("..")
    (root / "itself.png").symlink_to("itself.png")
    assert listed(root) == ["hand/a.png", "itself.png", "real/b.png"]
    assert "linked folders that lead back or are listed already: 4" in caplog.text


def test_folders_full_of_links_to_each_other_take_no_longer_than_their_number(tmp_path: Path) -> None:
    folders = [tmp_path / f"disk/{number}" for number in range(12)]  # 12! ways through them
    for folder in folders:
        write(folder / "a.png")
        for other in folders:
            (folder / f"to{other.name}").symlink_to(other)
    (tmp_path / "root").mkdir()
    (tmp_path / "root/in").symlink_to(folders[0])
    assert len(listed(tmp_path / "root")) == len(folders)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_sockets_and_devices_are_never_opened(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.dcm"))
        write(tmp_path / "a.png")
        assert listed(tmp_path) == ["a.png"]
    assert "pipes and devices: 4" in caplog.text


def test_a_folder_is_left_out_whichever_path_leads_to_it(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / "out/a_overlay.png")
    (tmp_path / "link").symlink_to("out")
    assert listed(tmp_path, tmp_path / "out") == ["a.png"]
    assert listed(tmp_path, tmp_path / "link") == ["a.png"]


def test_a_folder_that_cannot_be_listed_does_not_hide_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.png")
    write(tmp_path / "lost+found/b.png")
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if path.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert listed(tmp_path) == ["a.png"]
    assert "folders that cannot be listed (Permission denied): 1 (lost+found)" in caplog.text
    with pytest.raises(XrayError, match=r"lost\+found cannot be listed: Permission denied"):
        list_radiographs(tmp_path / "lost+found")


def test_names_that_are_not_utf8_are_listed(tmp_path: Path) -> None:
    write(tmp_path / os.fsdecode(b"R\xf6ntgen.png"))
    assert [os.fsencode(path.name) for path in list_radiographs(tmp_path)] == [b"R\xf6ntgen.png"]
