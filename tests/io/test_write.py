from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.write import write_atomically, write_png


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
