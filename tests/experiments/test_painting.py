from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from anomalib_xray.data.dataset import RadiographDataset
from anomalib_xray.data.table import samples_table
from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.objective import Objective
from anomalib_xray.experiments.painting import SHARE, for_selection, paint_fault, painted_copies
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.write import write_png
from anomalib_xray.phantom import render_phantom

LABEL_FREE = Objective("label-free", "painted_AUROC")


@pytest.fixture(scope="module")
def hand() -> np.ndarray:
    return np.asarray(render_phantom(np.random.default_rng(0)).image)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_one_patch_of_the_foreground_changes(hand: np.ndarray, depth: type) -> None:
    image = hand.astype(depth) * (depth(257) if depth is np.uint16 else depth(1))
    painted = paint_fault(image, 5)
    assert painted is not None
    picture, fault = painted
    assert picture.dtype == image.dtype
    assert (picture[~fault] == image[~fault]).all()
    assert (picture[fault] != image[fault]).mean() > 0.5
    assert SHARE[0] <= fault.sum() / (image > 0).sum() <= SHARE[1]
    assert ((picture > 0) == (image > 0)).all()
    assert picture[image > 0].min() >= np.iinfo(depth).max // 255


def test_a_fault_follows_from_its_seed_alone(hand: np.ndarray) -> None:
    pictures = []
    for seed in (5, 5, 6):
        painted = paint_fault(hand, seed)
        assert painted is not None
        pictures.append(painted[0])
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0] != pictures[2]).any()


def test_copies_are_abnormal_and_made_once(tmp_path: Path, hand: np.ndarray) -> None:
    for name in ("a", "b"):
        write_png(tmp_path / f"{name}.png", np.ascontiguousarray(np.rot90(hand, 2 * (name == "b"))))
    paths = [str(tmp_path / f"{name}.png") for name in ("a", "b")]
    normal = pd.DataFrame({"image_path": paths, "source": paths, "label": "normal", "label_index": 0, "mask_path": ""})
    copies = painted_copies(normal, tmp_path / "painted")
    assert copies["label_index"].tolist() == [1, 1]
    assert copies["source"].tolist() == copies["image_path"].tolist()
    assert not set(copies["image_path"]) & set(paths)
    for original, row in zip(paths, copies.itertuples(), strict=True):
        changed = read_radiograph(Path(str(row.image_path))) != read_radiograph(Path(original))
        assert changed.any()
        assert not (changed & (read_radiograph(Path(str(row.mask_path))) == 0)).any()
    assert normal["label_index"].tolist() == [0, 0]
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "painted").rglob("*.png")}
    assert len(times) == 4
    pd.testing.assert_frame_equal(painted_copies(normal, tmp_path / "painted"), copies)
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_what_has_no_foreground_is_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "black.png", np.zeros((32, 32), np.uint8))
    normal = pd.DataFrame({"image_path": [str(tmp_path / "black.png")]})
    with pytest.raises(XrayError, match=r"No fault could be painted into .*black\.png"):
        painted_copies(normal, tmp_path / "painted")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six radiographs, and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    image = np.asarray(render_phantom(np.random.default_rng(0)).image)[::2, ::2]
    paths = [folder / f"{number}.png" for number in range(6)]
    for number, path in enumerate(paths):
        write_png(path, np.ascontiguousarray(np.roll(image, number, axis=0)))
    (folder / "test.png").write_bytes(b"never read")
    return [*paths, folder / "test.png"]


def dataset(paths: list[Path], labels: list[int], split: str) -> RadiographDataset:
    rows = pd.DataFrame({"image_path": [str(path) for path in paths], "label_index": labels, "mask_path": ""})
    return RadiographDataset(samples_table(rows.assign(patient=rows.index.astype(str), study="1", split=split)))


def data(pictures: list[Path], labels: list[int], test: list[Path] | None = None) -> Any:
    return SimpleNamespace(
        name="hands",
        val_data=dataset(pictures[: len(labels)], labels, "val"),
        test_data=dataset(pictures[-1:] if test is None else test, [1] * len(test or [0]), "test"),
    )


def test_label_free_measures_normal_images_and_painted_copies_of_them(pictures: list[Path], tmp_path: Path) -> None:
    seen = for_selection(data(pictures, [0, 1, 0, 1, 0]), LABEL_FREE, tmp_path / "painted")
    samples = seen.val_data.samples
    normal, painted = samples[samples["label_index"] == 0], samples[samples["label_index"] == 1]
    assert sorted(normal["image_path"]) == [str(pictures[index]) for index in (0, 2, 4)]
    assert len(painted) == 3
    assert {Path(path).parent for path in painted["image_path"]} == {tmp_path / "painted"}
    assert [int(item.gt_label) for item in seen.val_data] == samples["label_index"].tolist()
    assert len(seen.test_data) == 0


def test_means_of_normal_images_need_no_others(pictures: list[Path], tmp_path: Path) -> None:
    seen = for_selection(data(pictures, [0, 1, 0]), Objective("label-free", "normal_mean"), tmp_path)
    assert sorted(seen.val_data.samples["image_path"]) == [str(pictures[index]) for index in (0, 2)]
    assert not list(tmp_path.iterdir())


def test_as_published_keeps_the_labels_and_loses_the_test_images(pictures: list[Path], tmp_path: Path) -> None:
    objective = Objective("as published", "AUROC")
    seen = for_selection(data(pictures, [0, 1, 0]), objective, tmp_path)
    assert seen.val_data.samples["label_index"].tolist() == [0, 1, 0]
    assert len(seen.test_data) == 0
    with pytest.raises(XrayError, match="have one label only; choose selection: label-free"):
        for_selection(data(pictures, [0, 0]), objective, tmp_path)


def test_settings_are_not_chosen_on_test_images(pictures: list[Path], tmp_path: Path) -> None:
    with pytest.raises(XrayError, match=r"1 validation images of hands are test images too, .*1\.png for one"):
        for_selection(data(pictures, [0, 0], test=pictures[1:3]), LABEL_FREE, tmp_path)


def test_label_free_needs_a_normal_image(pictures: list[Path], tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="hands has no normal validation image"):
        for_selection(data(pictures, [1, 1]), LABEL_FREE, tmp_path)
