from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops

from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png
from anomalib_xray.phantom import SceneOptions, render_phantom
from anomalib_xray.preparation.segmentation import flat_foreground
from anomalib_xray.preparation.step import Place
from anomalib_xray.preparation.steps.foreground import DOUBTFUL, NO_FOREGROUND, NO_READY_MASK, Foreground, ReadyMasks

METHODS = ("auto", "flat", "grabcut", "network")


def raw_phantom(seed: int = 0) -> Any:
    return render_phantom(np.random.default_rng(seed), SceneOptions(prepared=False, marker=1))


def write_constant_model(path: Path, level: float, region: tuple[slice, slice]) -> Path:
    """A network that finds the same region in every picture."""
    image = ops.parameter([1, 1, 32, 32], np.float32, name="image")
    logits = np.full((1, 1, 32, 32), -1, np.float32)
    logits[(0, 0, *region)] = level
    output = ops.add(ops.multiply(image, np.float32(0)), logits)
    openvino.save_model(openvino.Model([output], [image]), path, compress_to_fp16=False)
    return path


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_background_is_0_and_foreground_at_least_1(method: Any, dtype: type) -> None:
    image = raw_phantom().image[::2, ::2].astype(dtype) * (1 if dtype is np.uint8 else 16)
    image[image < 12 * (1 if dtype is np.uint8 else 16)] = 0
    before = image.copy()
    step = Foreground(method)
    plan = step.plan(image)
    prepared = step.apply(image, plan)
    mask = plan.parameters["mask"]
    np.testing.assert_array_equal(image, before)
    assert prepared.dtype == dtype
    assert mask.dtype == np.bool_
    assert mask.shape == image.shape
    np.testing.assert_array_equal(prepared > 0, mask)
    np.testing.assert_array_equal(prepared[mask], np.maximum(image, 1)[mask])
    json.dumps({key: value for key, value in plan.parameters.items() if key != "mask"})
    np.testing.assert_array_equal(step.plan(image).parameters["mask"], mask)


@pytest.mark.parametrize("method", ["auto", "flat"])
def test_hands_of_phantoms_are_found(method: Any) -> None:
    overlaps = []
    for seed in range(6):
        phantom = raw_phantom(seed)
        plan = Foreground(method).plan(phantom.image)
        assert plan.flags == ()
        mask = plan.parameters["mask"]
        overlaps.append((mask & phantom.foreground).sum() / (mask | phantom.foreground).sum())
    assert np.mean(overlaps) >= 0.975


def test_large_pictures_are_looked_at_in_a_view() -> None:
    phantom = raw_phantom()
    large = phantom.image.repeat(4, axis=0).repeat(4, axis=1)
    mask = Foreground("flat").plan(large).parameters["mask"]
    truth = phantom.foreground.repeat(4, axis=0).repeat(4, axis=1)
    assert mask.shape == large.shape
    assert (mask & truth).sum() / (mask | truth).sum() >= 0.97


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 600), (5, 3), (64, 48)])
@pytest.mark.parametrize("level", [0, 1, 65535])
def test_pictures_of_one_level_pass_without_a_warning(method: Any, shape: tuple[int, int], level: int) -> None:
    image = np.full(shape, level, np.uint16)
    step = Foreground(method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = step.plan(image)
    if plan.parameters:  # a network may see something in anything
        assert DOUBTFUL in plan.flags or method in ("network", "auto")
        assert step.apply(image, plan).shape == shape
    else:
        assert plan.flags == (NO_FOREGROUND,)


def test_a_picture_without_a_hand_is_flagged() -> None:
    assert Foreground("flat").plan(np.full((100, 80), 30, np.uint8)).flags == (NO_FOREGROUND,)


@pytest.mark.parametrize("region", [np.s_[10:12, 10:14], np.s_[1:31, 1:31]])
def test_an_implausible_area_is_flagged(tmp_path: Path, region: tuple[slice, slice]) -> None:
    model = write_constant_model(tmp_path / "m.xml", 1, region)
    plan = Foreground("network", model=model, model_output="logits").plan(np.full((200, 200), 20, np.uint8))
    assert plan.parameters["mask"].any()
    assert plan.flags == (DOUBTFUL,)


def test_the_doubt_is_recorded_and_flagged(tmp_path: Path) -> None:
    image = raw_phantom().image
    unsure = write_constant_model(tmp_path / "m.xml", 1, np.s_[4:28, 4:12])
    plan = Foreground("auto", model=unsure, model_output="logits").plan(image)
    assert plan.flags == (DOUBTFUL,)
    assert 0.1 < plan.parameters["doubt"] <= 1
    plan = Foreground("auto").plan(image)
    assert plan.flags == ()
    assert 0 <= plan.parameters["doubt"] < 0.1


@pytest.mark.parametrize("region", [np.s_[0:0, 0:0], np.s_[:, :]])
def test_an_implausible_network_does_not_decide(tmp_path: Path, region: tuple[slice, slice]) -> None:
    model = write_constant_model(tmp_path / "m.xml", 1, region)
    image = raw_phantom().image
    plan = Foreground("auto", model=model, model_output="logits").plan(image)
    assert plan.flags == (DOUBTFUL,)
    np.testing.assert_array_equal(plan.parameters["mask"], flat_foreground(image))


def test_a_drawn_mask_is_taken_and_moved(tmp_path: Path) -> None:
    drawn = np.zeros((6, 8), np.uint8)
    drawn[2:4, 3:6] = 200
    write_png(tmp_path / "a" / "b.png", drawn)
    shifted = np.array([[1.0, 0, -1], [0, 1, -2], [0, 0, 1]])
    step = Foreground("masks", masks=tmp_path)
    plan = step.plan_at(np.zeros((4, 7), np.uint16), Place("a/b.jpg", (6, 8), shifted))
    np.testing.assert_array_equal(plan.parameters["mask"], drawn[2:, 1:] > 0)
    assert plan.flags == ()


def test_an_empty_drawn_mask_is_no_foreground(tmp_path: Path) -> None:
    write_png(tmp_path / "b.png", np.zeros((6, 8), np.uint8))
    plan = Foreground("masks", masks=tmp_path).plan_at(np.ones((6, 8), np.uint8), Place("b.png", (6, 8), np.eye(3)))
    assert plan.flags == (NO_FOREGROUND,)
    assert not plan.parameters


def test_a_missing_drawn_mask_is_flagged_and_replaced(tmp_path: Path) -> None:
    image = raw_phantom().image
    plan = Foreground("masks", masks=tmp_path).plan_at(image, Place("b.png", image.shape, np.eye(3)))
    assert plan.flags == (NO_READY_MASK,)
    np.testing.assert_array_equal(plan.parameters["mask"], flat_foreground(image))


def test_the_fingerprint_follows_what_the_settings_name(tmp_path: Path) -> None:
    assert Foreground("flat").fingerprint("a.png") == ""
    assert Foreground("grabcut").fingerprint("a.png") == ""
    assert Foreground("auto").fingerprint("a.png") == Foreground("network").fingerprint("b.png") != ""
    model = write_constant_model(tmp_path / "m.xml", 1, np.s_[:, :])
    assert Foreground("auto", model=model).fingerprint("a.png") not in ("", Foreground("auto").fingerprint("a.png"))
    masks = Foreground("masks", masks=tmp_path)
    assert masks.fingerprint("a.jpg") == ""
    write_png(tmp_path / "a.png", np.ones((2, 2), np.uint8))
    assert masks.fingerprint("a.jpg") != ""


def test_a_step_travels_to_other_processes() -> None:
    image = raw_phantom().image
    step = Foreground("auto")
    expected = step.plan(image).parameters["mask"]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(step)).plan(image).parameters["mask"], expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "magic"}, "method 'magic' is unknown"),
        ({"model_output": "votes"}, "model_output 'votes' is unknown"),
        ({"model_output": "logits"}, "model of your own"),
        ({"method": "masks"}, "masks"),
        ({"masks": Path()}, "masks"),
        ({"method": "masks", "masks": Path("/nowhere")}, "/nowhere does not exist"),
        ({"method": "flat", "model": Path("m.xml")}, "no effect"),
        ({"model": Path("/nowhere/m.xml")}, "does not exist"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(XrayError, match=message):
        Foreground(**settings)


NAME = "patient1/study1/image1.jpg"


def place(name: str = NAME, shape: tuple[int, int] = (4, 6), matrix: np.ndarray | None = None) -> Place:
    return Place(name, shape, np.eye(3) if matrix is None else matrix)


def drawing() -> np.ndarray:
    image = np.zeros((4, 6), np.uint8)
    image[1:3, 2:5] = [[1, 80, 255], [7, 9, 3]]
    return image


@pytest.mark.parametrize("file", ["patient1/study1/image1.png", "patient1/study1/image1.jpg.png"])
def test_the_mask_lies_under_the_name_of_the_original(tmp_path: Path, file: str) -> None:
    write_png(tmp_path / file, drawing())
    np.testing.assert_array_equal(ReadyMasks(tmp_path).mask_at(place(), (4, 6)), drawing() > 0)


def test_names_with_dots_are_no_suffixes(tmp_path: Path) -> None:
    write_png(tmp_path / "1.2.840.png", drawing())
    assert ReadyMasks(tmp_path).find("1.2.840") == tmp_path / "1.2.840.png"


def test_a_missing_mask_is_none(tmp_path: Path) -> None:
    masks = ReadyMasks(tmp_path)
    assert masks.mask_at(place(), (4, 6)) is None
    assert masks.fingerprint(NAME) == ""


def test_the_mask_follows_the_geometry(tmp_path: Path) -> None:
    write_png((tmp_path / NAME).with_suffix(".png"), drawing())
    cropped_and_tripled = np.array([[3.0, 0, -2], [0, 3, -2], [0, 0, 1]])  # from the second row and column on
    found = ReadyMasks(tmp_path).mask_at(place(matrix=cropped_and_tripled), (9, 15))
    expected = np.kron((drawing() > 0)[1:4, 1:6], np.ones((3, 3), bool))
    np.testing.assert_array_equal(found, expected)


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    write_png((tmp_path / NAME).with_suffix(".png"), drawing())
    with pytest.raises(XrayError, match=r"image1\.png has 6 x 4 pixels, but .*image1\.jpg has 9 x 8"):
        ReadyMasks(tmp_path).mask_at(place(shape=(8, 9)), (4, 6))


@pytest.mark.parametrize("name", ["../secret.jpg", "a/../../secret.jpg", "/secret.jpg"])
def test_paths_never_leave_the_folder(tmp_path: Path, name: str) -> None:
    write_png(tmp_path / "secret.png", drawing())
    (tmp_path / "masks").mkdir()
    with pytest.raises(XrayError, match="lies outside"):
        ReadyMasks(tmp_path / "masks").find(name)


def test_linked_masks_are_followed(tmp_path: Path) -> None:
    write_png(tmp_path / "store" / "abc.png", drawing())
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "image1.png").symlink_to(tmp_path / "store" / "abc.png")
    assert ReadyMasks(tmp_path / "masks").find("image1.jpg") == tmp_path / "masks" / "image1.png"


def test_masks_of_files_named_by_uids_and_of_long_names_are_their_own(tmp_path: Path) -> None:
    write_png(tmp_path / "1.2.840.png", drawing())
    assert ReadyMasks(tmp_path).find("1.2.840.5") is None
    long = "a" * 251 + ".jpg"
    assert ReadyMasks(tmp_path).find(long) is None
    write_png(tmp_path / ("a" * 251 + ".png"), drawing())
    assert ReadyMasks(tmp_path).find(long) == tmp_path / ("a" * 251 + ".png")


def test_the_fingerprint_is_that_of_the_content(tmp_path: Path) -> None:
    path = (tmp_path / NAME).with_suffix(".png")
    write_png(path, drawing())
    assert ReadyMasks(tmp_path).fingerprint(NAME) == hashlib.sha256(path.read_bytes()).hexdigest()
