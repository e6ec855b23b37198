from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation.localization.boxes import LabelledBox
from anomalib_xray.preparation_models.localizer import SIDE
from anomalib_xray.preparation_models.localizer_data import Example, draw_batch, load_examples


def with_bright_box(height: int, width: int, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    image = np.zeros((height, width), np.uint8)
    image[y0:y1, x0:x1] = 200
    return image


def test_boxes_are_stretched_with_their_picture(tmp_path: Path) -> None:
    write_png(tmp_path / "below" / "a.png", with_bright_box(160, 640, 320, 40, 480, 120))
    boxes = {"a.png": (LabelledBox("rh", (320, 40, 480, 120)),)}
    (example,) = load_examples(tmp_path, boxes, ["lh", "rh"])
    assert example.boxes.tolist() == [[160, 80, 240, 240]]
    assert example.labels.tolist() == [1]
    assert example.view.shape == (128, 512)
    assert (example.image[90:230, 170:230] == 200).all()
    assert (example.image[:70] == 0).all()


def test_pictures_are_found_by_path_or_by_a_name_that_occurs_once(tmp_path: Path) -> None:
    for name in ("one/a.png", "two/a.png", "two/b.png"):
        write_png(tmp_path / name, np.full((8, 8), 9, np.uint8))
    assert len(load_examples(tmp_path, {"one/a.png": (), "two/a.png": (), "b.png": ()}, [])) == 3
    with pytest.raises(XrayError, match=r"a\.png occurs more than once"):
        load_examples(tmp_path, {"a.png": ()}, [])
    with pytest.raises(XrayError, match=r"c\.png is missing"):
        load_examples(tmp_path, {"c.png": ()}, [])


def test_names_are_found_in_any_form_and_a_damaged_picture_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one/Gro\u0308\u00dfe.png", "b.png"):
        write_png(tmp_path / name, np.full((8, 8), 9, np.uint8))
    (tmp_path / "damaged.png").write_bytes(b"nothing")
    names = ["Gr\u00f6\u00dfe.png", "one\\Gr\u00f6\u00dfe.png", "damaged.png"]
    assert len(load_examples(tmp_path, dict.fromkeys(names, ()), [])) == 2
    assert "left out: " in caplog.text
    with pytest.raises(XrayError, match="None of the 1 labelled pictures"):
        load_examples(tmp_path, {"damaged.png": ()}, [])


def test_boxes_follow_the_variation_of_their_picture() -> None:
    image = with_bright_box(SIDE, SIDE, 100, 60, 220, 260)
    boxes = np.array([[100, 60, 220, 260]], np.float32)
    examples = [Example(image, image, boxes, np.array([2]))]
    images, targets = draw_batch(examples, np.random.default_rng(0), 12)
    for drawn, target in zip(images, targets, strict=True):
        assert drawn.shape == (3, SIDE, SIDE)
        assert 0 <= drawn.min() < drawn.max() <= 1
        assert target["labels"].tolist() == [3]
        rows, columns = torch.nonzero(drawn[0] > drawn.max() / 2, as_tuple=True)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert target["boxes"][0].tolist() == pytest.approx([float(side) for side in seen], abs=2)
    assert len({tuple(target["boxes"][0].tolist()) for target in targets}) == 12


def test_a_picture_without_boxes_can_be_drawn() -> None:
    image = with_bright_box(SIDE, SIDE, 0, 0, 9, 9)
    example = Example(image, image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    _, (target,) = draw_batch([example], np.random.default_rng(0), 1)
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == (0,)
