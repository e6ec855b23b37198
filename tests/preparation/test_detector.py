from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from anomalib_xray.errors import XrayError
from anomalib_xray.preparation.detector import Description, Detector

SIDE = 40
BOXES = np.array([[2, 2, 12, 18], [3, 3, 13, 19], [24, 20, 38, 38]], np.float32)
CENTRES = ((10, 7), (11, 8), (29, 31))  # rows and columns


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A detector that knows three boxes; the score of each is the grey level at its centre, half of it as left hand."""
    image = ops.parameter([1, 3, SIDE, SIDE], np.float32, name="image")
    places = np.array([[0, 0, row, column] for row, column in CENTRES])
    levels = ops.unsqueeze(ops.gather_nd(image, places), np.int64(1))
    scores = ops.multiply(levels, np.array([[0.2, 1.0, 0.5]], np.float32))
    outputs = [ops.result(ops.constant(BOXES)), ops.result(scores)]
    path = tmp_path / "model.xml"
    openvino.save_model(openvino.Model(outputs, [image]), path, compress_to_fp16=False)
    describe(path)
    return path


def describe(path: Path, **changes: object) -> None:
    content = {"classes": ["label", "rh", "lh"], "hand_classes": ["rh", "lh"], "threshold": 0.7, **changes}
    path.with_suffix(".json").write_text(json.dumps(content))


def picture(*levels: float) -> np.ndarray:
    """Grey levels in [0, 1] at the centres of the boxes."""
    image = np.zeros((SIDE, SIDE), np.uint8)
    for (row, column), level in zip(CENTRES, levels, strict=True):
        image[row, column] = round(255 * level)
    return image


def test_boxes_count_from_the_threshold_on_and_the_surest_comes_first(model: Path) -> None:
    found = Detector(model).boxes(picture(0.8, 0, 0.9))
    assert [box.tolist() for box in found] == [BOXES[2].tolist(), BOXES[0].tolist()]
    assert len(Detector(model).boxes(picture(0.8, 0, 0.6))) == 1
    assert len(Detector(model, threshold=0.5).boxes(picture(0.8, 0, 0.6))) == 2
    assert len(Detector(model, threshold=1.0).boxes(picture(1.0, 0, 0))) == 1
    assert Detector(model).boxes(picture(0, 0, 0)) == []


def test_of_boxes_around_the_same_hand_the_surest_is_taken(model: Path) -> None:
    (box,) = Detector(model).boxes(picture(0.8, 0.9, 0))
    assert box.tolist() == BOXES[1].tolist()


def test_only_the_classes_of_hands_count(model: Path) -> None:
    describe(model, hand_classes=["lh"])
    assert Detector(model).boxes(picture(1, 0, 0)) == []
    assert len(Detector(model, threshold=0.4).boxes(picture(1, 0, 0))) == 1


def test_boxes_are_in_pixels_of_the_view(model: Path) -> None:
    large = np.kron(picture(1, 0, 0), np.ones((3, 2), np.uint8))
    (box,) = Detector(model, threshold=0.3).boxes(large)
    assert box.tolist() == (BOXES[0] * (2, 3, 2, 3)).tolist()


def test_the_turned_picture_is_taken_if_it_shows_more(model: Path) -> None:
    turned = np.rot90(picture(1, 0, 1), -1)
    assert Detector(model).boxes(turned) == []
    found = Detector(model, try_rotated=True).boxes(turned)
    # Turning by 90 degrees with the clock leads (x, y) to (SIDE - y, x).
    expected = {(SIDE - y1, x0, SIDE - y0, x1) for x0, y0, x1, y1 in BOXES[[0, 2]].tolist()}
    assert {tuple(box.tolist()) for box in found} == expected
    assert len(Detector(model, try_rotated=True).boxes(picture(1, 0, 1))) == 2


def test_a_replaced_model_is_loaded_anew(model: Path) -> None:
    detector = Detector(model)
    before = detector.fingerprint()
    assert len(detector.boxes(picture(0.8, 0, 0))) == 1
    describe(model, threshold=0.875)
    assert detector.boxes(picture(0.8, 0, 0)) == []
    assert detector.fingerprint() != before


def test_a_description_says_what_it_was_told(tmp_path: Path) -> None:
    description = Description(("lh", "ll"), ("lh",), 0.7)
    (tmp_path / "model.json").write_text(description.to_json())
    assert Description.of(tmp_path / "model.xml") == description


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"classes": ["ll"], "hand_classes": ["rh"], "threshold": 0.7}'])
def test_other_descriptions_are_refused(content: str, model: Path) -> None:
    model.with_suffix(".json").write_text(content)
    with pytest.raises(XrayError, match="does not describe a detector"):
        Detector(model).boxes(picture(0, 0, 0))


def test_other_models_are_refused(model: Path) -> None:
    describe(model, classes=["rh", "lh"])
    with pytest.raises(XrayError, match="is no detector"):
        Detector(model).boxes(picture(0, 0, 0))
    model.write_text("<net/>")
    with pytest.raises(XrayError, match="cannot be loaded"):
        Detector(model).boxes(picture(0, 0, 0))
    model.with_suffix(".bin").unlink()
    with pytest.raises(XrayError, match="cannot be read"):
        Detector(model).fingerprint()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (900, 3)])
def test_tiny_pictures_have_no_hands(model: Path, shape: tuple[int, int]) -> None:
    assert Detector(model, try_rotated=True).boxes(np.zeros(shape, np.uint8)) == []
