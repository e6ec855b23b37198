from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.text import (
    csv_text,
    read_csv,
    read_frame,
    read_json,
    read_text,
    read_yaml,
    write_csv,
    write_json,
    write_yaml,
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    content = {"b": [1, 2.5, None], "a": {"ö": "x"}}
    write_json(tmp_path / "new" / "a.json", content)
    assert read_json(tmp_path / "new" / "a.json") == content
    write_yaml(tmp_path / "a.yaml", content, header="# Röntgen\n")
    assert read_yaml(tmp_path / "a.yaml") == content
    assert read_text(tmp_path / "a.yaml").startswith("# Röntgen\nb:\n- 1\n")


def test_cells_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [
        {"path": f" {os.fsdecode(b'R' + bytes([0xF6]))}.png", "score": "0.5"},
        {"path": 'a,"b"\n' + 200_000 * "c", "score": ""},
    ]
    write_csv(tmp_path / "a.csv", ["path", "score"], rows)
    assert read_csv(tmp_path / "a.csv") == rows
    assert read_csv(tmp_path / "a.csv", {"score"}) == [{"score": row["score"]} for row in rows]
    assert (tmp_path / "a.csv").read_bytes() == csv_text(["path", "score"], rows).encode(errors="backslashreplace")


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("\ufeff{}", encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {}


@pytest.mark.parametrize(
    ("read", "content", "says"),
    [
        (read_text, b"R\xf6ntgen", "is no text in UTF-8"),
        (read_json, b"{", "is no JSON file: Expecting property name"),
        (read_json, b"[" * 100_000, "is no JSON file"),
        (read_yaml, b"a: [", "is no YAML file"),
        (read_yaml, b"a: !!python/object/apply:os.system [ls]", "is no YAML file"),
        (read_yaml, b"- a", "holds no settings"),
        (read_yaml, b"", "holds no settings"),
        (read_csv, b'a\n"b', "cannot be read as a CSV table: unexpected end of data (line "),
        (lambda path: read_csv(path, {"b"}), b"a\n", "has no column b"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, read: Callable[[Path], Any], content: bytes, says: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(XrayError) as refused:
        read(path)
    assert str(refused.value).startswith(f"{path} {says}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("read", [read_text, read_json, read_yaml, read_csv])
def test_a_missing_file_is_one_sentence(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    with pytest.raises(XrayError, match=r"none cannot be read.*No such file or directory"):
        read(tmp_path / "none")


def test_unknown_settings_and_large_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("seed: 1\nsede: 2\n")
    assert read_yaml(path, {"seed", "sede"}) == {"seed": 1, "sede": 2}
    with pytest.raises(XrayError, match=r"a\.yaml has the unknown setting sede; there are seed, size\."):
        read_yaml(path, {"seed", "size"})
    with pytest.raises(XrayError, match="at most 3 are read"):
        read_text(path, max_bytes=3)


def test_text_stays_as_it_is_and_empty_numbers_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("name,score,rest\n007,1.5,a\nNA,,b\n\\udcf6,inf,\n", encoding="utf-8")
    table = read_frame(path, ("name", "score"), text=("name", "absent"), advice="write it anew")
    assert table["name"].tolist() == ["007", "NA", "\udcf6"]
    assert table["score"].isna().tolist() == [False, True, False]
    assert list(table) == ["name", "score", "rest"]


@pytest.mark.parametrize(
    ("content", "message"),
    [("name\na\n", "has no column score, kind; write"), ("", r"t\.csv cannot be read .*; write it anew\.$")],
)
def test_what_is_no_such_table_is_one_sentence(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(XrayError, match=message):
        read_frame(tmp_path / "t.csv", ("name", "score", "kind"), text=("name",), advice="write it anew")
