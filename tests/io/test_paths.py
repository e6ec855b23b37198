from __future__ import annotations

from pathlib import Path

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import Finder, absolute, dead_link, fitted, is_below, leads_out
from anomalib_xray.io.read import read_bytes


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


def test_what_lies_below_a_folder_is_told_by_how_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/link").symlink_to("/etc")
    names = ("a", "link/hosts", "x/../a", "link/../a", "../a", "x/../../a", "/etc/hosts")
    assert [is_below(tmp_path / "folder" / name, tmp_path / "folder") for name in names] == [True] * 4 + [False] * 3


def test_long_names_are_shortened_to_whole_letters_and_stay_apart() -> None:
    assert fitted("a" * 251, ".png") == "a" * 251 + ".png"
    long, other = (fitted("ö" * 130 + last, "_overlay.png") for last in "ab")
    assert long != other
    assert len(long.encode()) in (254, 255)
    assert long.startswith("ö" * 100)
    assert long.endswith("_overlay.png")
    assert fitted("ö" * 130 + "a", "_overlay.png") == long


@pytest.mark.parametrize(
    ("on_disk", "listed"),
    [
        ("Gro\u0308\u00dfe.png", "Gr\u00f6\u00dfe.png"),
        ("Gr\u00f6\u00dfe.png", "Gro\u0308\u00dfe.png"),
        ("sub/a.png", "sub\\a.png"),
        ("su\u0308b/a.png", "s\u00fcb\\a.png"),
        (" a .png", "a .png"),
        ("R\udcf6ntgen.png", "Röntgen.png"),
        ("a\\b.png", "a\\b.png"),
    ],
)
def test_a_file_is_found_however_a_table_writes_its_name(tmp_path: Path, on_disk: str, listed: str) -> None:
    (tmp_path / on_disk).parent.mkdir(exist_ok=True)
    (tmp_path / on_disk).touch()
    assert Finder(tmp_path).find(listed) == tmp_path / on_disk


def test_a_file_that_is_not_there_keeps_the_name_given(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("sub/none.png", "none/none.png", "x" * 300, "a\0b"):
        assert Finder(tmp_path).find(name) == tmp_path / name


def test_a_file_that_may_be_meant_is_named(tmp_path: Path) -> None:
    (tmp_path / "Sub").mkdir()
    (tmp_path / "Sub/i0.png").touch()
    finder = Finder(tmp_path)
    for listed in ("Sub/I0.PNG", "sub/i0.png", "SUB/i0", "Sub/i0.jpg"):
        assert finder.lookalike(finder.find(listed)) == tmp_path / "Sub/i0.png"
    for listed in ("Sub/i1.png", "Sub/i0.png/a.png", "sub", "none/i0.png", "x" * 300, "Sub/i0.png"):
        assert finder.lookalike(finder.find(listed)) is None


def test_links_that_lead_nowhere_are_told_from_what_cannot_be_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, target in (("none", "gone"), ("itself", "itself"), ("good", ".")):
        (tmp_path / name).symlink_to(target)
    found = [dead_link(tmp_path / name) for name in ("none", "itself", "good", "x" * 300, "missing")]
    assert found == [Path("gone"), Path("itself"), None, None, None]

    def refused(_: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "readlink", refused)  # as at /proc/1/cwd
    with pytest.raises(XrayError, match="none cannot be read: No such file"):
        read_bytes(tmp_path / "none")
