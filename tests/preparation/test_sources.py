from __future__ import annotations

from pathlib import Path

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.preparation.sources import find_sources, prepared_name


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_names_patients_and_studies_come_from_muras_folders(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    image = "train/XR_HAND/patient00007/study2_negative/image1.png"
    touch(root, image, "other/b.JPG", "c.dcm", "._d.png", "notes.txt")
    found = find_sources(root, tmp_path / "out")
    assert [(source.name, source.patient, source.study) for source in found] == [
        ("c.dcm", "", ""),
        ("other/b.JPG", "", ""),
        (image, "patient00007", "study2_negative"),
    ]


def test_what_lies_in_the_output_is_no_source(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/a.png")
    assert [source.name for source in find_sources(tmp_path, tmp_path / "out")] == ["a.png"]


def test_masks_follow_their_radiographs(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    touch(root, "train/a.png", "train/b.png", "ground_truth/anomaly/train/a.png")
    found = find_sources(root, tmp_path / "out", masks=Path("ground_truth/anomaly"))
    assert [(source.name, source.mask) for source in found] == [
        ("train/a.png", "ground_truth/anomaly/train/a.png"),
        ("train/b.png", ""),
    ]


def test_masks_are_found_in_another_form_and_beside_dicom_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "raw"
    touch(root, "Gr\u00f6\u00dfe.png", "a.dcm", "1.2.3", "truth/Gro\u0308\u00dfe.png", "truth/a.png", "truth/1.2.png")
    (root / "1.2.3").write_bytes(b"\0" * 128 + b"DICM")
    found = find_sources(root, tmp_path / "out", masks=Path("truth"))
    assert [(source.name, source.mask) for source in found] == [
        ("1.2.3", ""),
        ("Gr\u00f6\u00dfe.png", "truth/Gro\u0308\u00dfe.png"),
        ("a.dcm", "truth/a.png"),
    ]
    (root / "other").mkdir()
    find_sources(root, tmp_path / "out", masks=Path("other"))
    assert "holds no mask under the path of any radiograph" in caplog.text


def test_folders_of_masks_hold_no_radiographs(tmp_path: Path) -> None:
    touch(tmp_path / "raw", "train/a.png", "ground_truth/foreground/train/a.png", "b/ground_truth/c.png")
    assert [source.name for source in find_sources(tmp_path / "raw", tmp_path / "out")] == ["train/a.png"]


def test_a_pattern_chooses(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    touch(root, "train/XR_HAND/p/s/a.png", "train/XR_ELBOW/p/s/a.png", "valid/XR_HAND/p/s/b.png")
    names = [source.name for source in find_sources(root, tmp_path / "out", only="*/XR_HAND/*")]
    assert names == ["train/XR_HAND/p/s/a.png", "valid/XR_HAND/p/s/b.png"]
    with pytest.raises(XrayError, match="--only"):
        find_sources(root, tmp_path / "out", only="hand")


def test_a_folder_of_masks_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    touch(tmp_path, "raw/a.png")
    with pytest.raises(XrayError, match="give --masks as a path below"):
        find_sources(tmp_path / "raw", tmp_path / "out", masks=Path("none"))


def test_a_table_lists_what_to_prepare(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    touch(root, "a.png", "b.png", "m/a.png")
    table = tmp_path / "t.csv"
    table.write_text("image_path,patient,study,mask_path\nb.png,p2,s1,\na.png,p1,,m/a.png\nmissing.png,p3,,\n")
    found = find_sources(root, tmp_path / "out", table=table)
    assert [(source.name, source.patient, source.study, source.mask) for source in found] == [
        ("a.png", "p1", "", "m/a.png"),
        ("b.png", "p2", "s1", ""),
        ("missing.png", "p3", "", ""),
    ]


@pytest.mark.parametrize("path", ["../a.png", "/etc/hosts", "x/../../a.png", "..\\a.png", ".", "x/.."])
def test_a_table_does_not_lead_out_of_the_root(tmp_path: Path, path: str) -> None:
    root = tmp_path / "raw"
    touch(root, "a.png")
    touch(tmp_path, "a.png")
    table = tmp_path / "t.csv"
    table.write_text(f"image_path\na.png\n{path}\n")
    found = find_sources(root, tmp_path / "out", table=table)
    assert [(source.name, source.problem[: source.problem.find(" is no file")]) for source in found] == [
        ("a.png", ""),
        ("line 3 of t.csv", path),
    ]


def test_links_below_the_root_are_followed_in_tables_and_folders(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    touch(root, "b.png")
    touch(tmp_path, "elsewhere/a.png", "cache/abc")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "a.png").symlink_to(tmp_path / "cache/abc")
    table = tmp_path / "t.csv"
    table.write_text("image_path\na.png\nlink/a.png\n")
    assert [(source.name, source.problem) for source in find_sources(root, tmp_path / "out", table=table)] == [
        ("a.png", ""),
        ("link/a.png", ""),
    ]
    assert [source.name for source in find_sources(root, tmp_path / "out")] == ["a.png", "b.png", "link/a.png"]


def test_rows_that_are_blank_or_repeated_or_empty_end_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / "raw"
    touch(root, "a.png", "b.png")
    table = tmp_path / "t.csv"
    table.write_text("image_path,patient\na.png,p1\n,\n,p2\na.png,p1 \nb.png,p3\nb.png,p4\n,\n,\n")
    found = find_sources(root, tmp_path / "out", table=table)
    assert [(source.name, source.patient, source.problem) for source in found] == [
        ("a.png", "p1", ""),
        ("b.png", "p3", f"lines 6 and 7 of {table} contradict each other about it; remove one of them"),
        ("line 4 of t.csv", "", "its image_path is empty; fill it in"),
    ]
    assert "line 5 of" in caplog.text
    assert "blank rows: 3 (first line 3)" in caplog.text


def test_names_and_ids_of_tables_are_found_in_any_form(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    touch(root, "Gro\u0308\u00dfe.png", "sub/a.png")
    table = tmp_path / "t.csv"
    rows = "Gr\u00f6\u00dfe.png ; Mu\u0308ller \r\nsub\\a.png;M\u00fcller\r\n"
    table.write_text(f" image_path ; patient \r\n{rows}", encoding="utf-16", newline="")
    assert [(source.name, source.patient) for source in find_sources(root, tmp_path / "out", table=table)] == [
        ("Gro\u0308\u00dfe.png", "M\u00fcller"),
        ("sub/a.png", "M\u00fcller"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no row"),
        ("path\na.png\n", "no column image_path, only path"),
        ("image_path\na.png,p1\n", "line 2 of .* has 2 cells"),
    ],
)
def test_a_wrong_table_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    touch(tmp_path, "raw/a.png")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(XrayError, match=says):
        find_sources(tmp_path / "raw", tmp_path / "out", table=tmp_path / "t.csv")


def test_files_whose_outputs_would_collide_are_marked(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    touch(root, "a.png", "A.jpg", "b.png")
    found = find_sources(root, tmp_path / "out")
    assert [(source.name, bool(source.problem)) for source in found] == [
        ("A.jpg", True),
        ("a.png", True),
        ("b.png", False),
    ]


@pytest.mark.parametrize("out", [".", "..", "../.."])
def test_raw_radiographs_are_never_overwritten(tmp_path: Path, out: str) -> None:
    root = tmp_path / "x" / "raw"
    touch(root, "a.png")
    with pytest.raises(XrayError, match="overwritten"):
        find_sources(root, root / out)


def test_a_missing_or_empty_root_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="There is no folder"):
        find_sources(tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(XrayError, match="holds no PNG, JPEG or DICOM file"):
        find_sources(tmp_path / "empty", tmp_path / "out")


def test_prepared_names() -> None:
    assert prepared_name("a/b.jpeg", 1, 1) == "a/b.png"
    assert prepared_name("a/b.dcm", 2, 2) == "a/b_part2.png"
    assert prepared_name("a/1.2.840.17", 1, 1) == "a/1.2.840.17.png"
    assert prepared_name("a/b.IMA", 1, 1) == "a/b.IMA.png"
    long = prepared_name("a/" + "ö" * 125 + ".dcm", 2, 2)
    assert long.endswith("_part2.png")
    assert len(long.removeprefix("a/").encode()) <= 255


def test_dicom_files_are_found_by_content_where_the_name_says_nothing(tmp_path: Path) -> None:
    touch(tmp_path / "raw", "IM000002", "DICOMDIR")
    (tmp_path / "raw" / "IM000001").write_bytes(b"\0" * 128 + b"DICM")
    assert [source.name for source in find_sources(tmp_path / "raw", tmp_path / "out")] == ["IM000001"]


def test_files_that_are_not_there_cost_no_other_file(tmp_path: Path) -> None:
    touch(tmp_path / "raw", "i0.png", "stra\u00dfe.png", "strasse.png")
    table = tmp_path / "t.csv"
    table.write_text("image_path\ni0.jpg\ni0.png\nstra\u00dfe.png\nstrasse.png\n", encoding="utf-8")
    found = find_sources(tmp_path / "raw", tmp_path / "out", table=table)
    assert [source.name for source in found if not source.problem][-3:] == ["i0.png", "strasse.png", "stra\u00dfe.png"]
    assert f"i0.jpg is not there, but {tmp_path / 'raw/i0.png'} is; correct the table" in found[0].problem


def test_a_mask_of_several_radiographs_is_prepared_for_each(tmp_path: Path) -> None:
    touch(tmp_path / "raw", "l.png", "r.png", "mask.png", "n.png", "m.png")
    table = tmp_path / "t.csv"
    table.write_text("image_path,mask_path\nl.png,mask.png\nr.png,mask.png\nn.png,nan\nm.png,\n")
    found = {source.name: source for source in find_sources(tmp_path / "raw", tmp_path / "out", table=table)}
    assert found["l.png"].mask == found["r.png"].mask == "mask.png"
    assert (found["l.png"].mask_as, found["r.png"].mask_as) == ("ground_truth/l.png", "ground_truth/r.png")
    assert found["n.png"].mask == found["m.png"].mask == ""
