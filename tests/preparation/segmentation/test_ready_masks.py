from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation.segmentation.ready_masks import ReadyMasks
from anomalib_xray.preparation.step import Place

NAME = "patient1/study1/image1.jpg"


def place(name: str = NAME, shape: tuple[int, int] = (4, 6), matrix: np.ndarray | None = None) -> Place:
    return Place(name, shape, np.eye(3) if matrix is None else matrix)


def drawing() -> np.ndarray:
    image = np.zeros((4, 6), np.uint8)
    image[1:3, 2:5] = [[1, 80, 255], [7, 9, 3]]
    return image


@pytest.mark.parametrize("file", ["patient1/study1/image1.png", "patient1/study1/image1.jpg.png"])
def test_the_mask_lies_under_the_name_of_the_original(tmp_path: Path, file: str) -> None:
    write_png(tmp_path / file, drawing())
    np.testing.assert_array_equal(ReadyMasks(tmp_path).mask_at(place(), (4, 6)), drawing() > 0)


def test_names_with_dots_are_no_suffixes(tmp_path: Path) -> None:
    write_png(tmp_path / "1.2.840.png", drawing())
    assert ReadyMasks(tmp_path).find("1.2.840") == tmp_path / "1.2.840.png"


def test_a_missing_mask_is_none(tmp_path: Path) -> None:
    masks = ReadyMasks(tmp_path)
    assert masks.mask_at(place(), (4, 6)) is None
    assert masks.fingerprint(NAME) == ""


def test_the_mask_follows_the_geometry(tmp_path: Path) -> None:
    write_png((tmp_path / NAME).with_suffix(".png"), drawing())
    cropped_and_tripled = np.array([[3.0, 0, -2], [0, 3, -2], [0, 0, 1]])  # from the second row and column on
    found = ReadyMasks(tmp_path).mask_at(place(matrix=cropped_and_tripled), (9, 15))
    expected = np.kron((drawing() > 0)[1:4, 1:6], np.ones((3, 3), bool))
    np.testing.assert_array_equal(found, expected)


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    write_png((tmp_path / NAME).with_suffix(".png"), drawing())
    with pytest.raises(XrayError, match=r"image1\.png has 6 x 4 pixels, but .*image1\.jpg has 9 x 8"):
        ReadyMasks(tmp_path).mask_at(place(shape=(8, 9)), (4, 6))


@pytest.mark.parametrize("name", ["../secret.jpg", "a/../../secret.jpg", "/secret.jpg"])
def test_paths_never_leave_the_folder(tmp_path: Path, name: str) -> None:
    write_png(tmp_path / "secret.png", drawing())
    (tmp_path / "masks").mkdir()
    with pytest.raises(XrayError, match="lies outside"):
        ReadyMasks(tmp_path / "masks").find(name)


def test_linked_masks_are_followed(tmp_path: Path) -> None:
    write_png(tmp_path / "store" / "abc.png", drawing())
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "image1.png").symlink_to(tmp_path / "store" / "abc.png")
    assert ReadyMasks(tmp_path / "masks").find("image1.jpg") == tmp_path / "masks" / "image1.png"


def test_masks_of_files_named_by_uids_and_of_long_names_are_their_own(tmp_path: Path) -> None:
    write_png(tmp_path / "1.2.840.png", drawing())
    assert ReadyMasks(tmp_path).find("1.2.840.5") is None
    long = "a" * 251 + ".jpg"
    assert ReadyMasks(tmp_path).find(long) is None
    write_png(tmp_path / ("a" * 251 + ".png"), drawing())
    assert ReadyMasks(tmp_path).find(long) == tmp_path / ("a" * 251 + ".png")


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    path = (tmp_path / NAME).with_suffix(".png")
    write_png(path, drawing())
    assert ReadyMasks(tmp_path).fingerprint(NAME) == hashlib.sha256(path.read_bytes()).hexdigest()
