from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import find_inputs, list_radiographs

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff\xe0"
DICOM = b"\0" * 128 + b"DICM"


def touch(root: Path, *names: str) -> list[Path]:
    paths = [root / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


def overlays(given: list[Path], out: Path) -> list[str]:
    return [image.overlay.relative_to(out).as_posix() for image in find_inputs(given, out)]


def test_folders_are_searched_and_mirrored(tmp_path: Path) -> None:
    touch(
        tmp_path / "in", "b/1.png", "a/1.PNG", "a/2.jpeg", "a/c/1.jpg", "a/notes.txt", "a/._1.png", "__MACOSX/._2.png"
    )
    found = find_inputs([tmp_path / "in"], tmp_path / "out")
    assert [image.name.as_posix() for image in found] == ["a/1.PNG", "a/2.jpeg", "a/c/1.jpg", "b/1.png"]
    assert overlays([tmp_path / "in"], tmp_path / "out") == [
        "a/1_overlay.png", "a/2_overlay.png", "a/c/1_overlay.png", "b/1_overlay.png",
    ]  # fmt: skip


def test_dicom_files_are_found_by_ending_or_else_by_content(tmp_path: Path) -> None:
    touch(tmp_path, "a.DCM", "b.dicom", "c.dic", "IM000002", "README", "notes.2", "d.tar")
    for name in ("IM000001", "1.2.840.113619.2", "DICOMDIR", "._IM000001", "e.tmp"):
        (tmp_path / name).write_bytes(b"\0" * 128 + b"DICM")
    found = {image.path.name for image in find_inputs([tmp_path], tmp_path / "out")}
    assert found == {"a.DCM", "b.dicom", "c.dic", "IM000001", "1.2.840.113619.2"}


def test_equal_names_of_several_folders_keep_two_overlays(tmp_path: Path) -> None:
    files = touch(tmp_path, "x/1.png", "y/1.png")
    assert overlays(files, tmp_path / "out") == ["x/1_overlay.png", "y/1_overlay.png"]
    assert overlays([tmp_path / "x", tmp_path / "y"], tmp_path / "out") == ["x/1_overlay.png", "y/1_overlay.png"]


def test_equal_stems_keep_two_overlays(tmp_path: Path) -> None:
    files = touch(tmp_path, "1.png", "1.jpg", "1.PNG")
    assert overlays(files, tmp_path / "out") == ["1_overlay.png", "1.jpg_overlay.png", "1.PNG_overlay.png"]


def test_overlays_of_files_named_by_uids_tell_their_files(tmp_path: Path) -> None:
    files = touch(tmp_path, "1.2.840.5.567", "1.2.840.5.568", "a.IMA", "a.IMG")
    assert overlays(files, tmp_path / "out") == [
        "1.2.840.5.567_overlay.png", "1.2.840.5.568_overlay.png", "a.IMA_overlay.png", "a.IMG_overlay.png",
    ]  # fmt: skip


def test_long_names_keep_overlays_of_their_own(tmp_path: Path) -> None:
    files = touch(tmp_path, "ö" * 125 + "1.png", "ö" * 125 + "2.png")
    found = find_inputs(files, tmp_path / "out")
    names = [path.name for image in found for path in (image.overlay, image.picture("explained"))]
    assert len(set(names)) == 4
    assert max(len(name.encode()) for name in names) <= 255


def test_a_list_of_files_with_links_and_other_files_is_searched_as_prepare_does(tmp_path: Path) -> None:
    touch(tmp_path, "nas/XR_HAND/1.png", "in/notes.txt", "in/ground_truth/1.png")
    (tmp_path / "in/train").symlink_to("../nas/XR_HAND")
    (tmp_path / "in/loop").symlink_to(".")
    assert overlays([tmp_path / "in"], tmp_path / "out") == ["train/1_overlay.png"]


def test_an_image_given_twice_is_predicted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "in/1.png")
    monkeypatch.chdir(tmp_path)
    found = find_inputs([Path("in/1.png"), Path("in"), Path("in/../in/1.png")], Path("out"))
    assert [image.path for image in found] == [Path("in/1.png")]


def test_a_missing_file_stays_an_input(tmp_path: Path) -> None:
    assert len(find_inputs([tmp_path / "missing.png"], tmp_path / "out")) == 1


def test_earlier_overlays_are_no_inputs(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "out/1_overlay.png")
    assert overlays([tmp_path], tmp_path / "out") == ["1_overlay.png"]


def test_overlays_among_the_images_are_refused(tmp_path: Path) -> None:
    files = touch(tmp_path, "1.png", "1_overlay.png")
    with pytest.raises(XrayError, match="among the images"):
        find_inputs([tmp_path], tmp_path)
    with pytest.raises(XrayError, match=r"would replace the image .*1_overlay\.png"):
        find_inputs(files, tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="holds no PNG, JPEG or DICOM"):
        find_inputs([tmp_path], tmp_path / "out")


def test_an_empty_folder_or_a_name_that_cannot_be_hides_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "in/1.png")
    (tmp_path / "empty").mkdir()
    long = tmp_path / ("x" * 300)
    found = find_inputs([tmp_path / "empty", long, tmp_path / "in"], tmp_path / "out")
    assert [image.path for image in found] == [long, tmp_path / "in" / "1.png"]
    assert "empty holds no PNG, JPEG or DICOM file" in caplog.text
    with pytest.raises(XrayError, match="None of the folders given"):
        find_inputs([tmp_path / "empty", tmp_path / "empty"], tmp_path / "out")


def test_nothing_given_is_refused(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="No images"):
        find_inputs([], tmp_path / "out")


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
