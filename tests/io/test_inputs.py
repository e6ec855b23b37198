from __future__ import annotations

from pathlib import Path

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import find_inputs


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
