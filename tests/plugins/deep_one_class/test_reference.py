from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from anomalib_xray.errors import XrayError
from anomalib_xray.transforms import PadResize
from anomalib_xray_plugins.deep_one_class.lightning_model import ReferencePictures


def write(path: Path, value: int = 9) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((6, 4), value, np.uint8))
    return path


def pictures(root: Path) -> ReferencePictures:
    return ReferencePictures(root, PadResize(8))


def test_sub_folders_are_classes_with_all_that_lies_below_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "knee" / "b.png")
    write(tmp_path / "knee" / "patient1" / "a.png")
    write(tmp_path / "chest" / "c.png")
    write(tmp_path / "loose.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "chest" / "notes.txt").write_text("no picture")
    with caplog.at_level(logging.WARNING):
        found = pictures(tmp_path)
    assert found.classes == ["chest", "knee"]
    assert [[file.name for file in files] for files in found.files] == [["c.png"], ["b.png", "a.png"]]
    assert "1 pictures" in caplog.text


def test_folder_without_sub_folders_is_one_class(tmp_path: Path) -> None:
    write(tmp_path / "legs" / "a.png")
    write(tmp_path / "legs" / "b.png")
    found = pictures(tmp_path / "legs")
    assert found.classes == ["legs"]
    assert [len(files) for files in found.files] == [2]


def test_batch_has_the_pictures_of_its_labels_in_the_size_of_the_network(tmp_path: Path) -> None:
    write(tmp_path / "dark" / "a.png", 51)
    for number in range(5):
        write(tmp_path / "light" / f"{number}.png", 204)
    images, labels = pictures(tmp_path).batch(64, seed=0)
    assert images.shape == (64, 3, 8, 8)
    torch.testing.assert_close(images[:, 0, 4, 4], torch.where(labels == 0, 0.2, 0.8))
    assert 16 < int(labels.sum()) < 48  # classes have the same chance, whatever the number of their pictures
    assert torch.equal(images[:, :, :, 0], torch.zeros(64, 3, 8))  # padded to a square, not stretched


def test_seed_alone_decides_the_batch(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path / str(number % 2) / f"{number}.png", 10 * number + 1)
    first, again = pictures(tmp_path), pictures(tmp_path)
    first.batch(4, seed=3)
    torch.rand(3)
    torch.testing.assert_close(first.batch(8, seed=5), again.batch(8, seed=5), rtol=0, atol=0)
    assert not torch.equal(first.batch(8, seed=5)[0], first.batch(8, seed=6)[0])


def test_augmentation_sees_each_picture_and_may_change_its_size(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 51)
    images, _ = pictures(tmp_path).batch(2, 0, lambda picture: torch.cat([picture, picture], dim=2) * 2)
    assert images.shape == (2, 3, 8, 8)
    assert images.max() == pytest.approx(0.4, abs=0.05)  # 0.2 doubled; the resizing takes some from the rim


def test_pictures_are_read_once_and_not_changed_by_their_use(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", 51)
    found = pictures(tmp_path)
    first, _ = found.batch(1, 0)
    expected = first.clone()
    first.zero_()
    path.unlink()
    torch.testing.assert_close(found.batch(1, 1)[0], expected)


def test_unreadable_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(XrayError, match=r"broken\.png is damaged"):
        pictures(tmp_path).batch(1, 0)


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="is no folder"):
        pictures(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(XrayError, match="there is no PNG"):
        pictures(tmp_path)


def test_linked_files_and_folders_are_followed(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside" / "a.png")
    inside = write(tmp_path / "root" / "chest" / "b.png")
    (inside.parent / "a.png").symlink_to(outside)
    (tmp_path / "root" / "other").symlink_to(outside.parent)
    (tmp_path / "root" / "loop").symlink_to(".")
    found = pictures(tmp_path / "root")
    assert found.classes == ["chest", "other"]
    assert [[path.name for path in files] for files in found.files] == [["a.png", "b.png"], ["a.png"]]
