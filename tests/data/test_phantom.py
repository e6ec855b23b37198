from __future__ import annotations

from pathlib import Path

import cv2
import pandas as pd
import pytest

from anomalib_xray.data import Phantom
from anomalib_xray.errors import XrayError

from .conftest import Prepare


@pytest.fixture(scope="module")
def phantom_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantoms") / "small"
    Phantom(root, patients=12).prepare_data()
    return root


def test_set_is_generated_split_and_masked(phantom_root: Path) -> None:
    datamodule = Phantom(phantom_root, patients=12, image_size=64)
    datamodule.setup()
    assert datamodule.task == "segmentation"
    assert datamodule.name == "XR_HAND"
    assert set(datamodule.train_data.samples["label"]) == {"normal"}
    for dataset in (datamodule.val_data, datamodule.test_data):
        assert set(dataset.samples["label"]) == {"normal", "abnormal"}
        for item in dataset:
            assert item.gt_mask.shape == (64, 64)
            assert item.gt_mask.any() == item.gt_label


def test_pictures_are_prepared(phantom_root: Path) -> None:
    image = cv2.imread(Phantom(phantom_root, patients=12).samples["image_path"][0], cv2.IMREAD_GRAYSCALE)
    assert (image[:4, :4] == 0).all()
    assert (image > 0).mean() < 0.9


def test_a_complete_set_is_left_as_it_is(phantom_root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in phantom_root.rglob("*")}
    Phantom(phantom_root, patients=12).setup()
    assert {path: path.stat().st_mtime_ns for path in phantom_root.rglob("*")} == before


def test_other_arguments_in_the_same_folder_are_refused(phantom_root: Path) -> None:
    with pytest.raises(XrayError, match="patients=12 instead of 13"):
        Phantom(phantom_root, patients=13).setup()


def test_the_valid_part_can_be_tested_on(phantom_root: Path) -> None:
    samples = Phantom(phantom_root, patients=12, test_on="holdout").samples
    assert all("/valid/" in path for path in samples[samples["split"] == "test"]["image_path"])


def test_raw_films_are_drawn_split_and_read_prepared(phantom_root: Path, tmp_path: Path, prepare: Prepare) -> None:
    raw = Phantom(tmp_path / "films", patients=12, prepared=False)
    borders = [cv2.imread(path, cv2.IMREAD_GRAYSCALE)[:4, :4] for path in raw.samples["image_path"]]
    assert any(border.any() for border in borders)
    truth = {Path(path).relative_to(raw.root).as_posix() for path in raw.samples["mask_path"] if path}
    masks = {path.removeprefix("ground_truth/anomaly/"): path for path in truth}
    prepared = prepare(raw.root, two_hands=[min(masks)], masks=masks)
    datamodule = Phantom(raw.root, patients=12, prepared=False, prepared_root=prepared, image_size=16)
    datamodule.setup()
    assert datamodule.task == "segmentation"
    assert len(datamodule.samples) == len(raw.samples) + 1
    for other in (raw, Phantom(phantom_root, patients=12)):
        splits = other.samples[["patient", "study", "label", "split"]].drop_duplicates(ignore_index=True)
        own = datamodule.samples[["patient", "study", "label", "split"]].drop_duplicates(ignore_index=True)
        pd.testing.assert_frame_equal(own, splits)
    without_mask = datamodule.samples[
        (datamodule.samples["label_index"] == 1) & (datamodule.samples["mask_path"] == "")
    ]
    assert list(without_mask["source"]) == [str(raw.root / min(masks))]
