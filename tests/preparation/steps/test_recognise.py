from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openvino
import openvino.opset15 as ops
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.tables import read_table
from anomalib_xray.preparation.history import Action
from anomalib_xray.preparation.manifest import rows_of
from anomalib_xray.preparation.record import Output, Record
from anomalib_xray.preparation.sources import Source
from anomalib_xray.preparation.step import Plan
from anomalib_xray.preparation.steps.recognise import SHIPPED_RECOGNISER, SIDE, Recognise, input_of

DATA = Path(__file__).parents[4] / "shared" / "data"


def write_network(path: Path, *, side: int = SIDE, parts: int = 2, threshold: float = 0.7) -> Path:
    """A network whose confidence in its first part is the mean of the picture, in [0, 1]."""
    image = ops.parameter([1, 1, side, side], np.float32)
    mean = ops.reduce_mean(image, np.array([1, 2, 3]), keep_dims=False)
    column = ops.reshape(mean, np.array([1, 1]), special_zero=False)
    rest = ops.subtract(np.float32(1), column)
    openvino.save_model(
        openvino.Model([ops.concat([column, *[rest] * (parts - 1)], 1)], [image]), path, compress_to_fp16=False
    )
    path.with_suffix(".json").write_text(json.dumps({"body_parts": ["wing", "fin"], "threshold": threshold}))
    return path


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_network(tmp_path / "model.xml")


@pytest.mark.parametrize(
    ("grey", "part", "confidence", "flags"),
    [(204, "wing", 0.8, ()), (51, "fin", 0.8, ()), (153, "wing", 0.6, ("body_part_unsure",))],
)
def test_the_likeliest_part_is_named_and_the_picture_left_alone(
    network: Path, grey: int, part: str, confidence: float, flags: tuple[str, ...]
) -> None:
    image = np.full((40, 40), grey, np.uint8)
    plan = Recognise(network).plan(image)
    assert plan.parameters == {"body_part": part, "confidence": pytest.approx(confidence, abs=1e-3)}
    assert plan.flags == flags
    assert Recognise(network).apply(image, plan) is image


def test_the_threshold_may_be_set(network: Path) -> None:
    image = np.full((40, 40), 204, np.uint8)
    assert Recognise(network, threshold=0.9).plan(image).flags == ("body_part_unsure",)
    with pytest.raises(XrayError, match="threshold is a confidence from 0 to 1, not 2"):
        Recognise(network, threshold=2)


def test_depth_and_size_do_not_matter(network: Path) -> None:
    image = np.zeros((300, 200), np.uint8)
    image[50:200, 80:150] = 255
    small = image[::2, ::2]
    assert input_of(image).shape == (SIDE, SIDE)
    np.testing.assert_allclose(input_of(small).mean(), input_of(image).mean(), atol=0.01)
    np.testing.assert_allclose(input_of(image.astype(np.uint16) * 16), input_of(image), atol=1e-6)
    assert Recognise(network).plan(image.astype(np.uint16) * 16) == Recognise(network).plan(image)


def test_another_file_is_another_fingerprint_and_a_replaced_one_is_read_anew(network: Path) -> None:
    image = np.full((9, 9), 204, np.uint8)
    step = Recognise(network)
    before = step.fingerprint("a.png"), step.plan(image).flags
    write_network(network, threshold=0.95)
    assert (step.fingerprint("b.png"), step.plan(image).flags) != before
    assert step.plan(image).flags == ("body_part_unsure",)


def test_files_that_are_no_such_network_are_refused(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match=r"none\.xml does not exist"):
        Recognise(tmp_path / "none.xml")
    image = np.zeros((9, 9), np.uint8)
    for name, changes in (("side", {"side": 32}), ("parts", {"parts": 3})):
        path = write_network(tmp_path / f"{name}.xml", **changes)
        with pytest.raises(XrayError, match=rf"{name}\.xml is no network of body parts: take the \.xml file"):
            Recognise(path).plan(image)
    path = write_network(tmp_path / "json.xml")
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(XrayError, match=r"json\.json names no body parts"):
        Recognise(path).plan(image)


def test_the_manifest_has_the_part_and_the_confidence() -> None:
    found = Action("recognise", "", Plan({"body_part": "wing", "confidence": 0.8}))
    other = Action("resize", "", Plan({"shape": [3, 2]}))
    for history, cells in (((found, other), ("wing", "0.8")), ((other,), ("", ""))):
        output = Output("a.png", "", (3, 2), 1, np.eye(3), history)
        (row,) = rows_of(Source("a.png"), Record("a.png", "", "", (3, 2), (output,), ""))
        assert (row["body_part"], row["body_part_confidence"]) == cells
    (row,) = rows_of(Source("a.png"), Record("a.png", "", "", (0, 0), (), "it is damaged"))
    assert (row["body_part"], row["body_part_confidence"]) == ("", "")


def test_what_is_shipped_is_small_and_knows_five_parts() -> None:
    assert sum(SHIPPED_RECOGNISER.with_suffix(ending).stat().st_size for ending in (".xml", ".bin", ".json")) < 1e6
    found = Recognise().plan(np.zeros((30, 20), np.uint8)).parameters
    assert found["body_part"] in {"chest", "hand", "hip", "leg", "shoulder"}
    assert 0.2 <= found["confidence"] <= 1


@pytest.mark.skipif(not (DATA / "fracatlas_other").is_dir(), reason="needs FracAtlas in ../shared/data")
def test_what_is_shipped_names_real_radiographs() -> None:
    folder = DATA / "fracatlas_other"
    rows = [row.cells for row in read_table(folder / "table.csv")[::6]]
    step = Recognise()
    right = [
        step.plan(read_radiograph(folder / row["image_path"])).parameters["body_part"] == row["body_part"]
        for row in rows
    ]
    assert np.mean(right) > 0.9
