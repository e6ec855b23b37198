from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from anomalib_xray.data.mura import BODY_PARTS, body_part_folders, read_index, scan_folders
from anomalib_xray.errors import XrayError

from .conftest import WritePicture


@pytest.mark.parametrize("written", ["XR_HAND", "HAND", "hand", "xr_hand", ["hand", "XR_HAND"]])
def test_body_parts_as_people_write_them(written: str | list[str]) -> None:
    assert body_part_folders(written) == ["XR_HAND"]


@pytest.mark.parametrize("everything", ["all", ["all"]])
def test_all_body_parts(everything: str | list[str]) -> None:
    assert body_part_folders(everything) == list(BODY_PARTS)


@pytest.mark.parametrize("unknown", ["foot", ["hand", "foot"], []])
def test_unknown_body_part_is_refused_with_the_choice(unknown: str | list[str]) -> None:
    with pytest.raises(XrayError, match=r"no body part .*XR_WRIST, or all"):
        body_part_folders(unknown)


def test_folders_give_patient_study_and_label_and_debris_is_ignored(mura_root: Path) -> None:
    images = scan_folders(mura_root, "train", "XR_HAND").set_index("relative")
    assert len(images) == sum(n % 3 + 1 for n in range(1, 16)) + 2
    assert images.loc["train/XR_HAND/patient00001/study1_positive/image2.png"].to_dict() == {
        "patient": "patient00001",
        "study": "XR_HAND/patient00001/study1_positive",
        "label_index": 1,
    }
    assert images.loc["train/XR_HAND/patient00001/study2_negative/image1.png", "label_index"] == 0


def test_linked_folders_and_other_endings_are_listed(mura_root: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = scan_folders(mura_root, "train", "XR_HAND")
    hands = mura_root / "train" / "XR_HAND"
    hands.rename(mura_root.parent / "nas")
    hands.symlink_to(mura_root.parent / "nas")
    (hands / "loop").symlink_to("..")
    first = hands.parent.parent / expected["relative"][0]
    first.rename(first.with_suffix(".PNG"))
    (hands / "contact_sheet.png").write_bytes(b"")
    found = scan_folders(mura_root, "train", "XR_HAND")
    assert found["patient"].tolist() == expected["patient"].tolist()
    assert found["relative"][0].endswith(".PNG")
    assert "no folder of a study: 1 (first contact_sheet.png)" in caplog.text


def test_stray_folders_are_passed_over_and_counted(
    mura_root: Path, write_picture: WritePicture, caplog: pytest.LogCaptureFixture
) -> None:
    expected = scan_folders(mura_root, "train", "XR_HAND")
    for stray in ("patient00001 - Copy/study1_negative", "patient00001/study2", "Patient00001/study1_negative"):
        write_picture(mura_root / "train/XR_HAND" / stray / "image1.png")
    pd.testing.assert_frame_equal(scan_folders(mura_root, "train", "XR_HAND"), expected)
    assert "no folder of a study: 3 (first Patient00001/study1_negative/image1.png)" in caplog.text


@pytest.mark.parametrize("official", ["train", "valid"])
def test_csv_files_list_the_same_as_the_folders(mura_root: Path, official: str) -> None:
    of_folders = scan_folders(mura_root, official, "XR_HAND")
    of_csv = read_index(mura_root, official, "XR_HAND").sort_values("relative", ignore_index=True)
    pd.testing.assert_frame_equal(of_folders, of_csv)


def test_csv_files_with_headers_are_the_same(mura_root: Path) -> None:
    plain = read_index(mura_root, "train", "XR_HAND")
    for file, header in (("train_image_paths.csv", "Img_Path"), ("train_labeled_studies.csv", "Img_Path,Label")):
        (mura_root / file).write_text(f"{header}\n" + (mura_root / file).read_text())
    pd.testing.assert_frame_equal(plain, read_index(mura_root, "train", "XR_HAND"))


def test_repeated_lines_are_passed_over_and_contradicting_ones_named(
    mura_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = read_index(mura_root, "train", "XR_HAND")
    for file in ("train_image_paths.csv", "train_labeled_studies.csv"):
        text = (mura_root / file).read_text()
        (mura_root / file).write_text(text + text.splitlines()[0] + "\n")
    pd.testing.assert_frame_equal(read_index(mura_root, "train", "XR_HAND"), expected)
    assert "train_image_paths.csv: passed over rows that repeat another: 1 (first line 35)" in caplog.text
    with (mura_root / "train_labeled_studies.csv").open("a") as file:
        file.write("train/XR_HAND/patient00001/study1_positive,0\n")
    with pytest.raises(XrayError, match=r"lines 1 and 20 of .* contradict each other about train/XR_HAND/patient00001"):
        read_index(mura_root, "train", "XR_HAND")


def test_csv_files_with_further_columns_are_the_same(mura_root: Path) -> None:
    expected = read_index(mura_root, "train", "XR_HAND")
    for file, header in (("train_image_paths.csv", ",0"), ("train_labeled_studies.csv", ",0,1")):
        rows = (mura_root / file).read_text().splitlines()
        rows = [f"{number},{row},more" for number, row in enumerate(rows)]
        (mura_root / file).write_text("\n".join([header, *rows]))
    pd.testing.assert_frame_equal(read_index(mura_root, "train", "XR_HAND"), expected)


def test_the_label_is_that_of_the_csv_file(mura_root: Path) -> None:
    file = mura_root / "valid_labeled_studies.csv"
    file.write_text(file.read_text().replace("study1_negative/,0", "study1_negative/,1"))
    assert (read_index(mura_root, "valid", "XR_HAND")["label_index"] == 1).all()


def test_study_without_label_is_named(mura_root: Path) -> None:
    file = mura_root / "valid_labeled_studies.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:1]))
    with pytest.raises(XrayError, match="no label for valid/XR_HAND/patient11186/study1_negative"):
        read_index(mura_root, "valid", "XR_HAND")


def test_unknown_label_in_the_csv_file_is_named(mura_root: Path) -> None:
    file = mura_root / "valid_labeled_studies.csv"
    file.write_text(file.read_text().replace(",1", ",yes"))
    with pytest.raises(XrayError, match=r"patient11185/study1_positive of .*has the label 'yes'"):
        read_index(mura_root, "valid", "XR_HAND")


def test_missing_csv_file_and_missing_part_are_named(mura_root: Path) -> None:
    with pytest.raises(XrayError, match=r"test_image_paths\.csv"):
        read_index(mura_root, "test", "XR_HAND")
    with pytest.raises(XrayError, match="XR_ELBOW has no image"):
        scan_folders(mura_root, "train", "XR_ELBOW")


@pytest.mark.parametrize("path", ["patient00001/study1_good/image1.png", "../../outside/image1.png"])
def test_paths_out_of_the_layout_are_refused(mura_root: Path, path: str) -> None:
    (mura_root / "train_image_paths.csv").write_text(f"MURA-v1.1/train/XR_HAND/{path}\n")
    with pytest.raises(XrayError, match="not in MURA's layout"):
        read_index(mura_root, "train", "XR_HAND")
