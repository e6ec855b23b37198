from __future__ import annotations

import logging
from pathlib import Path

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.tables import check_columns, identity, patient_ids, read_table

HEADER, ROWS = "image_path{s}patient", ["a.png{s}p1", "Größe.png{s}p2"]


def cells(path: Path) -> list[dict[str, str]]:
    return [row.cells for row in read_table(path)]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "t.csv"


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_other_programs_write_is_read(table: Path, separator: str, encoding: str, end: str) -> None:
    text = end.join([HEADER, *ROWS, ""]).format(s=separator)
    table.write_bytes(text.encode(encoding))
    assert cells(table) == [{"image_path": "a.png", "patient": "p1"}, {"image_path": "Größe.png", "patient": "p2"}]


def test_windows_1252_is_read_and_said(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    table.write_bytes("image_path;patient\nGröße.png;p1\n".encode("cp1252"))
    with caplog.at_level(logging.WARNING):
        assert cells(table) == [{"image_path": "Größe.png", "patient": "p1"}]
    assert "is read as Windows-1252" in caplog.text


def test_blanks_quotes_short_rows_and_excels_own_line(table: Path) -> None:
    table.write_bytes(b'sep=;\n "image_path" ; patient ; note\n a.png\xc2\xa0; "p;1" ;"two\nlines"\nb.png\nc.png;p;;\n')
    rows = read_table(table)
    assert [row.cells for row in rows] == [
        {"image_path": "a.png", "patient": "p;1", "note": "two\nlines"},
        {"image_path": "b.png", "patient": "", "note": ""},
        {"image_path": "c.png", "patient": "p", "note": ""},
    ]
    assert [row.line for row in rows] == [3, 5, 6]


@pytest.mark.parametrize(
    "text",
    [
        "image_path;finding (left, right, both)\na.png;x\n",
        "image_path;note\n\n\na.png;1,5\nb.png;2,5, 3\n",
        '"image_path";"a, b, c"\na.png;x\nb.png\n',
        "image_path;note",
    ],
)
def test_the_separator_is_told_by_the_first_lines(table: Path, text: str) -> None:
    table.write_text(text)
    assert [row["image_path"] for row in cells(table)] == ["a.png", "b.png"][: text.count(".png")]


def test_marks_of_files_that_were_put_together_are_no_letters(table: Path) -> None:
    table.write_bytes("image_path\na.png\n".encode("utf-8-sig") + '"b.png"\n'.encode("utf-8-sig"))
    assert [row["image_path"] for row in cells(table)] == ["a.png", "b.png"]


def test_blank_rows_are_passed_over_and_counted(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    table.write_text("\nimage_path,patient\na.png,p1\n,\n\n , \nb.png,\n")
    with caplog.at_level(logging.WARNING):
        assert [row.line for row in read_table(table)] == [3, 7]
    assert "passed over blank rows: 3 (first line 4)" in caplog.text


def test_names_of_columns_have_one_form(table: Path) -> None:
    table.write_text("Größe\n1\n", encoding="utf-8")
    assert cells(table) == [{"Gr\u00f6ße": "1"}]


def test_bytes_of_names_are_read_back(table: Path) -> None:
    table.write_text("image_path\nR\\udcf6ntgen.png\n\\udc41.png\n")
    assert [row["image_path"] for row in cells(table)] == ["R\udcf6ntgen.png", "\\udc41.png"]


def test_a_table_without_a_header_has_the_columns_given(table: Path) -> None:
    table.write_text("a/,1\nb/,0\n")
    assert [row.cells["label"] for row in read_table(table, ["study", "label"])] == ["1", "0"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"image_path,patient\na.png,p,1\n", "line 2 of .* has 3 cells, but there are 2 columns"),
        (b"image_path,image_path \na.png,b.png\n", "two columns 'image_path'"),
        (b'image_path,patient\na.png,p1\n"b.png,p2\n', "from line 3 on: a quote is never closed"),
        (b"a," + b"x" * 200_000, "larger than field limit"),
        (b"a\x81\x8d\xff,b\n", "no text in UTF-8"),
        (b"image_path\n\0\n", "no table of text"),
        (b"\xff\xfea\0,\0b", "no whole UTF-16 text"),
    ],
)
def test_what_is_wrong_is_named(table: Path, content: bytes, says: str) -> None:
    table.write_bytes(content)
    with pytest.raises(XrayError, match=says):
        read_table(table)


def test_columns_that_lack_are_named_beside_those_that_are_there(table: Path) -> None:
    table.write_text("path,patient\na.png,p\n")
    with pytest.raises(XrayError, match="has no column image_path, only path, patient; rename one"):
        check_columns(read_table(table), table, ["image_path"], "rename one")
    table.write_text("image_path\n")
    with pytest.raises(XrayError, match="no row below its header"):
        check_columns(read_table(table), table, ["image_path"], "add one")


def test_ids_are_compared_trimmed_and_in_one_form() -> None:
    assert identity(" Mu\u0308ller ") == identity("M\u00fcller\u00a0") == "M\u00fcller"
    assert identity("p3") != identity("P3")
    assert {
        identity(form) for form in ("p 3", "p\u200b  3", "\u2060p 3", "p\u00a03\u200e", "p\t3", "\ufeffp 3\x1a")
    } == {"p 3"}


def test_patients_that_may_be_one_or_none_are_named(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    table.write_text("patient\n7.0\n7\nP7\np7\n0007\n1.2.0\nnan\nNone\n#N/A\n-\n\uff507\nAna\n", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        found = patient_ids(read_table(table), "patient", table)
    assert found == ["7", "7", "P7", "p7", "0007", "1.2.0", "", "", "", "", "\uff507", "Ana"]
    assert "no patient are taken as empty: 4 (first line 8, 'nan')" in caplog.text
    assert "differ only in case, width or zeros: 3 (first P7 and p7)" in caplog.text
    caplog.clear()
    table.write_text("patient\np1\np1 \np10\n")
    assert patient_ids(read_table(table), "patient", table) == ["p1", "p1", "p10"]
    assert not caplog.text


def test_stray_quotes_swallow_no_rows_unsaid(table: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [f"{number}.png,p{number},x" for number in range(9)]
    table.write_text("\n".join(["image_path,patient,note", *rows]).replace("p3,x", 'p3,"x').replace("p6,x", 'p6,"x'))
    with pytest.raises(XrayError, match="from line 5 on: a quote joins it with the next 3 lines"):
        read_table(table)
    table.write_text("\n".join(["image_path,patient,note", *rows]).replace("p3,x", 'p3,"x').replace("p6,x", 'p6,x"'))
    assert len(read_table(table)) == 6
    assert "quotes that join lines which look like rows: 1 (first from line 5 on)" in caplog.text
    caplog.clear()
    table.write_text(
        'image_path,note,patient\na.png,"LUNGS:\nclear, wide;\n""5 cm"" mark" ,p1\n"b.png" , "5" mark,p2\n'
    )
    assert [row.cells["patient"] for row in read_table(table)] == ["p1", "p2"]
    assert not caplog.text
