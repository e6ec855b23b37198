from __future__ import annotations

from pathlib import Path

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.frames import read_frame


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
