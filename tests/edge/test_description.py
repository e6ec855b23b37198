from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from anomalib_xray.edge.description import is_inner_path, read_description
from anomalib_xray.errors import XrayError

from .tiny_bundle import MANIFEST

DIGEST = "0" * 64
FILES = {f"{name}/model.{ending}": DIGEST for name in ("fp32", "fp16") for ending in ("xml", "bin")}


def written(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "bundle.json"
    path.write_text(json.dumps(MANIFEST | {"files": FILES} | changes))
    return path


def refused(path: Path) -> str:
    with pytest.raises(XrayError) as caught:
        read_description(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.endswith(".")
    return message


def test_a_complete_one_is_read(tmp_path: Path) -> None:
    content = read_description(written(tmp_path))
    assert content.scores == ("brightest", "mean")
    assert content.accepted == {"fp32": "fp32/model.xml", "fp16": "fp16/model.xml"}


def test_one_of_the_earlier_format_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, format=3)
    content = json.loads(path.read_text())
    del content["normalization"]
    path.write_text(json.dumps(content))
    assert read_description(path).normalization is None


@pytest.mark.parametrize("key", sorted(MANIFEST.keys() - {"normalization"}))
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    path = written(tmp_path)
    content = json.loads(path.read_text())
    del content[key]
    path.write_text(json.dumps(content))
    assert f"lacks the key {key!r}" in refused(path)


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    assert "unknown key 'extra'" in refused(written(tmp_path, extra=1))


def test_a_newer_format_asks_for_an_upgrade(tmp_path: Path) -> None:
    assert "of format 5" in refused(written(tmp_path, format=5, extra=1))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", True),
        ("format", 1),
        ("format", 0),
        ("format", "4"),
        ("model", 7),
        ("model", ""),
        ("model", "x\n"),
        ("settings", []),
        ("scores", []),
        ("scores", ["mse", "mse"]),
        ("scores", ["mse", 1]),
        ("thresholds", {"brightest": "0.4"}),
        ("thresholds", {"brightest": True}),
        ("pixel_threshold", "none"),
        ("distribution", {"brightest": [0.0] * 100}),
        ("distribution", {"brightest": [1.0] * 100 + [0.0]}),
        ("distribution", {"brightest": None}),
        ("map_limits", [1.0]),
        ("map_limits", [1.0, 0.0]),
        ("precisions", {"fp64": {"model": "fp64/model.xml"}}),
        ("precisions", {"fp32": {"model": "../model.xml"}}),
        ("precisions", {"fp32": {"model": "fp32/model.pt"}}),
        ("precisions", {"fp32": {"accepted": "no"}}),
        ("preparation", "/etc/passwd"),
        ("files", {"fp32/model.xml": "abc"}),
        ("files", {"../model.xml": DIGEST}),
        ("scope", {"body_part": []}),
        ("scope", {"body_parts": "HAND", "views": [], "sides": None}),
        ("scope", {"body_parts": [], "views": [1], "sides": None}),
        ("scope", {"body_parts": [], "views": [], "sides": [0, 10]}),
        ("scope", {"body_parts": [], "views": [], "sides": [10.5, 20]}),
        ("scope", {"body_parts": [], "views": [], "sides": [20, 10]}),
        ("normalization", 0.5),
        ("normalization", {"image": [0.0], "pixel": None}),
        ("normalization", {"image": [0.0, "1"], "pixel": None}),
        ("normalization", {"image": None}),
        ("normalization", {"image": [0.0, 1.0], "pixel": None}),
        ("versions", None),
        ("data", "none"),
    ],
)
def test_a_value_of_another_form_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    assert re.search(rf"'{key}['.]", refused(written(tmp_path, **{key: value})))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"score": "mse"}, "'score'"),
        ({"thresholds": {"mse": 1.0}}, "names 'mse'"),
        ({"distribution": {"mse": [0.0] * 101}}, "names 'mse'"),
        ({"precision": "int8"}, "'precision'"),
        ({"precision": "bf16"}, "'precision'"),
        ({"preparation": "preparation/pipeline.yaml"}, "no checksum of preparation/pipeline.yaml"),
        ({"files": {}}, "no checksum of fp16/model.bin"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(written(tmp_path, **changes))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, number: str) -> None:
    path = written(tmp_path, settings={"width": 12345})
    path.write_text(path.read_text().replace("12345", number))
    assert re.search("not valid JSON of finite numbers|'settings' in", refused(path))


@pytest.mark.parametrize("text", ["", "[]", "{", '"text"', "[" * 100_000])
def test_what_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bundle.json"
    path.write_text(text)
    assert "JSON" in refused(path)


@pytest.mark.parametrize("limits", [[1.0, 1.0], [2.0, 1.0]])
def test_limits_must_differ(tmp_path: Path, limits: list[float]) -> None:
    changes = {"scores": ["mean"], "score": "mean", "thresholds": {}, "distribution": {}}
    said = refused(written(tmp_path, normalization={"image": limits, "pixel": None}, **changes))
    assert "'normalization.image' must be [smallest, largest] of different values" in said


def test_a_huge_one_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "bundle.json"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    assert "larger than" in refused(path)


@pytest.mark.parametrize("path", ["model.xml", "fp32/model.xml", "a b/c.bin", ".hidden"])
def test_paths_inside(path: str) -> None:
    assert is_inner_path(path)


@pytest.mark.parametrize(
    "path",
    ["", ".", "..", "../x", "a/../../x", "/x", "a//x", "a/", "./x", "C:x", "C:\\x", "a\\..\\x", "x\n", "\x00"],
)
def test_paths_that_lead_elsewhere_or_have_two_spellings(path: str) -> None:
    assert not is_inner_path(path)
