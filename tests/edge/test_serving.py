from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from anomalib_xray import NOTICE
from anomalib_xray.cli import main
from anomalib_xray.openvino_runtime import openvino_core

from .tiny_bundle import write_bundle


def serve(bundle: Path, out: Path, *options: str) -> int:
    return main(["serving", "--bundle", str(bundle), "--out", str(out), *options])


def names_of(out: Path) -> list[str]:
    return [entry["config"]["name"] for entry in json.loads((out / "config.json").read_text())["model_config_list"]]


def test_the_layout_is_that_of_the_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    assert serve(bundle, tmp_path / "models") == 0
    assert NOTICE in capsys.readouterr().out
    files = {path.relative_to(tmp_path / "models").as_posix() for path in (tmp_path / "models").rglob("*.*")}
    assert files == {"config.json", "tiny/1/model.xml", "tiny/1/model.bin"}
    (entry,) = json.loads((tmp_path / "models" / "config.json").read_text())["model_config_list"]
    assert entry["config"]["name"] == "tiny"
    assert entry["config"]["base_path"] == "/models/tiny"
    # The server must compute as the bundle's runtime does.
    compiled = openvino_core().compile_model(
        str(tmp_path / "models" / "tiny" / "1" / "model.xml"), "CPU", entry["config"]["plugin_config"]
    )
    assert compiled(np.full((1, 3, 8, 8), 0.25, np.float32))["scores"][0] == pytest.approx([0.25, 0.25])


def test_models_and_versions_are_added(tmp_path: Path) -> None:
    first, second = write_bundle(tmp_path / "first"), write_bundle(tmp_path / "second", with_map=False)
    out = tmp_path / "models"
    for bundle, name in ((first, "hand"), (first, "hand"), (second, "hand"), (second, "chest")):
        assert serve(bundle, out, "--name", name, "--precision", "fp32") == 0
    assert names_of(out) == ["hand", "chest"]
    # The same model again is no new version.
    assert sorted(path.name for path in (out / "hand").iterdir()) == ["1", "2"]
    assert [path.name for path in (out / "chest").iterdir()] == ["1"]


@pytest.mark.parametrize(
    ("options", "config", "sentence"),
    [
        (["--name", "../out"], None, "is no name for a served model"),
        (["--precision", "int8"], None, "has no model in int8; choose one of fp32, fp16"),
        ([], "[]", "is no configuration of OpenVINO Model Server"),
        ([], "{", "is no configuration of OpenVINO Model Server"),
    ],
)
def test_mistakes_are_one_sentence(
    options: list[str], config: str | None, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, out = write_bundle(tmp_path / "bundle"), tmp_path / "models"
    if config is not None:
        out.mkdir()
        (out / "config.json").write_text(config)
    assert serve(bundle, out, *options) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert printed.count("\n") == 1
    assert not list(tmp_path.rglob("models/*/*"))
