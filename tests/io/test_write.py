from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.write import TEMPORARY, noticing_full_disk, temporary_of, write_atomically, write_png


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_png_round_trip_into_a_new_folder(tmp_path: Path, depth: type) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(depth).max, (7, 5), dtype=depth)
    file = tmp_path / "new" / "a.png"
    write_png(file, image)
    read = read_radiograph(file)
    assert read.dtype == depth
    np.testing.assert_array_equal(read, image)
    assert [path.name for path in file.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize("image", [np.zeros((2, 2)), np.zeros((2, 2, 3), np.uint8), np.zeros((0, 2), np.uint8)])
def test_what_is_no_radiograph_is_not_written(tmp_path: Path, image: np.ndarray) -> None:
    with pytest.raises(XrayError, match=r"a\.png"):
        write_png(tmp_path / "a.png", image)
    assert not any(tmp_path.iterdir())


def test_interrupted_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.txt"
    write_atomically(file, "old")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(XrayError, match="No space left on device"):
        write_atomically(file, "new")
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_text_is_utf8_and_bytes_are_bytes(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "Röntgen\n")
    assert (tmp_path / "a").read_bytes() == b"R\xc3\xb6ntgen\n"
    write_atomically(tmp_path / "a", b"\x00")
    assert (tmp_path / "a").read_bytes() == b"\x00"


def test_a_folder_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(XrayError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "a.txt", "")


def test_a_name_of_255_bytes_is_written(tmp_path: Path) -> None:
    file = tmp_path / ("ö" * 125 + "x.png")
    assert len(file.name.encode()) == 255
    write_atomically(file, "content")
    assert file.read_text() == "content"
    assert list(tmp_path.iterdir()) == [file]


def test_text_with_names_that_are_not_utf8_is_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", f"{os.fsdecode(b'R' + bytes([0xF6]) + b'ntgen.png')}\n")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "R\\udcf6ntgen.png\n"


KILLED_WHILE_WRITING = """
import os, pathlib, signal, sys
from anomalib_xray.io.write import write_atomically
pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_atomically(sys.argv[1], "half of it, and longer than what comes after")
"""


def test_what_a_killed_process_left_is_used_again(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(file)], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert TEMPORARY.fullmatch(left.name)
    write_atomically(file, "whole")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "whole")]


def test_many_who_write_one_file_write_one_after_the_other(tmp_path: Path) -> None:
    contents = [str(number) * 200_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_atomically(tmp_path / "a", content), contents * 3))
    assert (tmp_path / "a").read_text() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_link_in_the_place_of_the_unfinished_file_leads_nothing_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("old")
    temporary_of(tmp_path / "a").symlink_to(tmp_path / "precious")
    with pytest.raises(XrayError, match="cannot be written"):
        write_atomically(tmp_path / "a", "new")
    assert (tmp_path / "precious").read_text() == "old"


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", "new")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def full(*_: object) -> int:
        raise OSError(number, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(XrayError, match=f"The disk of {re.escape(str(tmp_path))} is full .*: make room"):
        write_atomically(tmp_path / "a.csv", "text")


@pytest.mark.parametrize(
    ("raised", "free", "is_told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 10**9, True),
        (RuntimeError("basic_ios::clear: iostream error"), 10_000, True),
        (RuntimeError("basic_ios::clear: iostream error"), 10**9, False),
        (XrayError("There is no picture."), 10_000, False),
    ],
)
def test_whatever_a_library_says_of_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, free: int, is_told: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(XrayError if is_told else type(raised)) as caught, noticing_full_disk(tmp_path / "new" / "out"):
        raise raised
    assert ("is full" in str(caught.value)) == is_told


def test_a_full_disk_behind_another_sentence_is_told(tmp_path: Path) -> None:
    error = XrayError("The model cannot be exported: element 1024.")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(XrayError, match="is full"), noticing_full_disk(tmp_path):
        raise error
