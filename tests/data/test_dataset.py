from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.transforms.v2 import RandomHorizontalFlip
from torchvision.tv_tensors import Image, Mask

from anomalib_xray.data.dataset import RadiographDataset, read_image
from anomalib_xray.data.kept_pictures import read_mask
from anomalib_xray.data.table import samples_table
from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png

from .conftest import WritePicture


def table(images: list[tuple[Path, int, Path | str]]) -> pd.DataFrame:
    rows = pd.DataFrame(images, columns=["image_path", "label_index", "mask_path"]).astype(
        {"image_path": str, "mask_path": str}
    )
    return samples_table(rows.assign(patient=rows["image_path"], study=rows["image_path"], split="test"))


def test_image_has_three_equal_channels_in_the_unit_interval(tmp_path: Path, write_picture: WritePicture) -> None:
    item = RadiographDataset(table([(write_picture(tmp_path / "a.png"), 0, "")]))[0]
    assert isinstance(item.image, Image)
    assert item.image.shape == (3, 12, 8)
    assert item.image.dtype == torch.float32
    assert torch.equal(item.image[0], item.image[1])
    assert torch.equal(item.image[0], item.image[2])
    assert not item.image[:, 0].any()
    assert item.image[:, 1:].min() >= 1 / 255
    assert item.image.max() <= 1
    assert item.gt_mask is None
    assert item.mask_path is None
    assert not item.gt_label


def test_16_bit_keeps_its_depth(tmp_path: Path) -> None:
    levels = np.arange(3000, dtype=np.uint16).reshape(50, 60)
    write_png(tmp_path / "deep.png", levels)
    image = read_image(tmp_path / "deep.png")
    assert len(image.unique()) > 2900
    assert image.max() == 1


def test_segmentation_gives_masks_to_all_and_turns_them_with_the_image(
    tmp_path: Path, write_picture: WritePicture
) -> None:
    marked = np.zeros((12, 8), np.uint8)
    marked[3, 1] = 255
    write_png(tmp_path / "mask.png", marked)
    images = [(write_picture(tmp_path / "a.png"), 0, ""), (write_picture(tmp_path / "b.png"), 1, tmp_path / "mask.png")]
    dataset = RadiographDataset(table(images), augmentations=RandomHorizontalFlip(p=1))
    assert dataset.task == "segmentation"
    normal, abnormal = dataset[0], dataset[1]
    assert not normal.gt_mask.any()
    assert abnormal.gt_mask.nonzero().tolist() == [[3, 6]]
    assert torch.equal(abnormal.image, read_image(tmp_path / "b.png").flip(-1))
    assert abnormal.gt_label


def test_classification_leaves_masks_out(tmp_path: Path, write_picture: WritePicture) -> None:
    picture = write_picture(tmp_path / "a.png")
    assert RadiographDataset(table([(picture, 1, picture)]), task="classification")[0].gt_mask is None


def test_a_split_of_normal_images_can_still_be_segmentation(tmp_path: Path, write_picture: WritePicture) -> None:
    item = RadiographDataset(table([(write_picture(tmp_path / "a.png"), 0, "")]), task="segmentation")[0]
    assert item.gt_mask.shape == (12, 8)
    assert not item.gt_mask.any()


def test_one_unknown_label_takes_the_labels_from_all_so_that_batches_hold(
    tmp_path: Path, write_picture: WritePicture
) -> None:
    images = [(write_picture(tmp_path / "a.png"), 0, ""), (write_picture(tmp_path / "b.png"), -1, "")]
    dataset = RadiographDataset(table(images))
    assert dataset.collate_fn([dataset[0], dataset[1]]).gt_label is None
    labelled = RadiographDataset(table(images[:1]))
    assert labelled.collate_fn([labelled[0]]).gt_label.tolist() == [False]


def test_mask_is_uint8_of_0_and_1_and_must_fit(tmp_path: Path, write_picture: WritePicture) -> None:
    image = read_image(write_picture(tmp_path / "a.png"))
    mask = read_mask(tmp_path / "a.png", image)
    assert isinstance(mask, Mask)
    assert mask.dtype == torch.uint8
    assert mask.unique().tolist() == [0, 1]
    write_picture(tmp_path / "wide.png", width=9)
    with pytest.raises(XrayError, match=r"wide\.png has \(12, 9\) pixels .* \(12, 8\)"):
        read_mask(tmp_path / "wide.png", image)


def test_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(XrayError, match=r"bad\.png"):
        RadiographDataset(table([(tmp_path / "bad.png", 0, "")]))[0]
