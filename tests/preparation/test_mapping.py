from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation.manifest import rows_of, write_manifest
from anomalib_xray.preparation.mapping import restore, to_original, to_prepared
from anomalib_xray.preparation.record import Output, Record, write_record
from anomalib_xray.preparation.sources import Source
from anomalib_xray.preparation.view import scaling

SHIFT = np.array([[1, 0, -3], [0, 1, -2], [0, 0, 1]], float)


def test_a_shift_moves_whole_pixels_there_and_back() -> None:
    mask = np.zeros((12, 15), bool)
    mask[4:7, 5:9] = True
    moved = to_prepared(mask, SHIFT, (8, 10))
    np.testing.assert_array_equal(moved, mask[2:10, 3:13])
    back = to_original(moved.astype(np.float32), SHIFT, mask.shape)
    np.testing.assert_array_equal(back, mask.astype(np.float32))


def test_outside_of_the_crop_nothing_is_known() -> None:
    back = to_original(np.ones((4, 4), np.float32), SHIFT, (10, 10))
    assert back.sum() == 16
    assert back[2:6, 3:7].all()


@pytest.mark.parametrize("after", [(128, 96), (31, 24), (200, 150)])
def test_a_change_of_size_agrees_with_opencv(after: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.random((64, 48), dtype=np.float32), (0, 0), 4)
    resized = cv2.resize(picture, (after[1], after[0]), interpolation=cv2.INTER_LINEAR)
    back = to_original(np.asarray(resized, np.float32), scaling(picture.shape, after), picture.shape)
    inner = (slice(4, -4), slice(4, -4))
    assert np.abs(back[inner] - picture[inner]).max() < 0.1 * (picture.max() - picture.min())


def test_parts_merge_by_their_maximum(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shift = np.array([[1, 0, -2], [0, 1, 0], [0, 0, 1]], float)
    for name, level in (("left.png", 2), ("right.png", 5), ("other.png", 9)):
        write_png(tmp_path / "maps" / name, np.full((4, 4), level, np.uint8))
    outputs = tuple(
        Output(name, "", (4, 4), 0, matrix, ()) for name, matrix in (("left.png", np.eye(3)), ("right.png", shift))
    )
    record = Record("a.png", "", "", (4, 8), outputs, "")
    write_record(tmp_path, record)
    write_manifest(tmp_path, rows_of(Source("a.png"), record))
    assert restore(tmp_path / "maps", tmp_path / "back", tmp_path) == 0
    whole = read_radiograph(tmp_path / "back" / "a.png")
    np.testing.assert_array_equal(whole, np.tile(np.uint8([2, 2, 5, 5, 5, 5, 0, 0]), (4, 1)))
    assert "passed over pictures that are not named as one in" in caplog.text
    assert "1 (first other.png)" in caplog.text
    for folder in (tmp_path / "maps", tmp_path):
        with pytest.raises(XrayError, match="would be overwritten: give another folder as --out"):
            restore(tmp_path / "maps", folder, tmp_path)
