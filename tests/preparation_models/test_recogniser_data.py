from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation.steps.recognise import SIDE
from anomalib_xray.preparation_models.recogniser_data import (
    HELD_OUT,
    TRAIN,
    Example,
    Labelled,
    at_most,
    draw_batch,
    list_folders,
    list_table,
    load_examples,
    split_by_group,
    varied,
)


def example(label: int = 0, seed: int = 0) -> Example:
    view = np.random.default_rng(seed).integers(1, 255, (120, 90), np.uint8)
    foreground = np.zeros(view.shape, bool)
    foreground[20:100, 30:60] = True
    return Example(view, foreground, label)


def test_muras_folders_tell_part_and_patient_and_others_the_part(tmp_path: Path) -> None:
    for name in (
        "MURA-v1.1/train/XR_ELBOW/patient00011/study1_negative/image1.png",
        "MURA-v1.1/valid/XR_HAND/patient00011/study1_positive/image1.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        write_png(tmp_path / name, np.ones((4, 4), np.uint8))
    found = [(one.body_part, one.group) for one in list_folders(tmp_path / "MURA-v1.1")]
    assert found == [("elbow", "patient00011"), ("hand", "patient00011")]
    with pytest.raises(XrayError, match="no folder"):
        list_folders(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(XrayError, match="no radiograph in a folder of a body part"):
        list_folders(tmp_path / "empty")


def test_a_table_names_part_group_and_split(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.ones((4, 4), np.uint8))
    table = tmp_path / "table.csv"
    table.write_text("image_path,body_part,group,split\na.png,Hip,g1,train\na.png,leg,,val\n")
    assert list_table(table) == [
        Labelled(tmp_path / "a.png", "hip", "g1", TRAIN),
        Labelled(tmp_path / "a.png", "leg", "a.png", HELD_OUT),
    ]
    table.write_text("image_path,body_part\na.png,\n")
    with pytest.raises(XrayError, match=r"line 2 .* has no body_part"):
        list_table(table)
    table.write_text("image_path,body_part\nb.png,hip\n")
    with pytest.raises(XrayError, match=r"line 2 .* has a file that does not exist, 'b\.png'"):
        list_table(table)
    table.write_text("image_path\nb.png\n")
    with pytest.raises(XrayError, match="no column body_part"):
        list_table(table)


def test_groups_are_held_out_as_a_whole_and_a_tables_split_counts() -> None:
    listed = [Labelled(Path(f"{group}{number}"), "hip", f"g{group}") for group in range(10) for number in range(3)]
    split = split_by_group(listed, 0.3, seed=1)
    sides = {group: {one.split for one in split if one.group == group} for group in {one.group for one in split}}
    assert all(len(side) == 1 for side in sides.values())
    assert sum(side == {HELD_OUT} for side in sides.values()) == 3
    assert split == split_by_group(listed, 0.3, seed=1)
    assert split != split_by_group(listed, 0.3, seed=2)
    told = [Labelled(Path("a"), "hip", "g", HELD_OUT), Labelled(Path("b"), "hip", "h")]
    assert [one.split for one in split_by_group(told, 0.9, 0)] == [HELD_OUT, TRAIN]


def test_no_part_has_more_than_asked_for() -> None:
    listed = [Labelled(Path(str(number)), "hip" if number < 9 else "leg", "g", TRAIN) for number in range(11)]
    kept = at_most(listed, 3, seed=0)
    assert [one.body_part for one in kept] == ["hip"] * 3 + ["leg"] * 2
    assert kept == at_most(listed, 3, seed=0)


def test_parts_are_drawn_by_their_shares_however_rare() -> None:
    examples = [example(0), *[example(1, seed) for seed in range(30)]]
    images, labels = draw_batch(examples, np.array([2, 6], np.float32), 400, np.random.default_rng(0))
    assert images.shape == (400, 1, SIDE, SIDE)
    assert images.dtype == np.float32
    assert 0.7 < labels.mean() < 0.8
    again, _ = draw_batch(examples, np.array([2, 6], np.float32), 400, np.random.default_rng(0))
    np.testing.assert_array_equal(images, again)


def test_inputs_vary_and_stay_pictures() -> None:
    rng = np.random.default_rng(0)
    drawn = [varied(example(), rng) for _ in range(60)]
    assert all(image.min() >= 0 and image.max() <= 1 and np.isfinite(image).all() for image in drawn)
    shares = [float((image > 0.02).mean()) for image in drawn]
    assert min(shares) < 0.4 < 0.7 < max(shares)
    tiny = Example(np.ones((1, 1), np.uint8), np.ones((1, 1), bool), 0)
    assert varied(tiny, rng).shape == (SIDE, SIDE)
    empty = Example(np.zeros((20, 20), np.uint8), np.zeros((20, 20), bool), 0)
    assert np.isfinite([varied(empty, rng) for _ in range(20)]).all()


def test_radiographs_that_cannot_be_read_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_png(tmp_path / "a.png", np.full((40, 30), 9, np.uint8))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:-20])
    listed = [Labelled(tmp_path / name, "hip", name) for name in ("a.png", "b.png")]
    assert len(load_examples(listed, ["hip"])) == 1
    assert "left out: " in caplog.text
    assert "b.png is damaged" in caplog.text
    with pytest.raises(XrayError, match="None of the listed radiographs of hip can be read"):
        load_examples(listed[1:], ["hip"])
