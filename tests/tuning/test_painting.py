from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.write import write_png
from anomalib_xray.phantom import render_phantom
from anomalib_xray.tuning.painting import SHARE, paint_fault, painted_copies


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
