from __future__ import annotations

from pathlib import Path

from anomalib_xray.io.paths import absolute, leads_out


def test_leaving_a_folder_by_dots_or_links_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "inside").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (folder / "out").symlink_to(tmp_path / "outside")
    (folder / "in").symlink_to(folder / "inside")
    assert [leads_out(folder / name, folder) for name in ("inside/a", "in/a", "out/a", "../a")] == [
        False,
        False,
        True,
        True,
    ]


def test_absolute_removes_dots_and_keeps_links(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert absolute(tmp_path / "x" / ".." / "link") == tmp_path / "link"
