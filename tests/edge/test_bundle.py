from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomalib_xray.cli import main
from anomalib_xray.edge.bundle import Bundle, sha256
from anomalib_xray.edge.description import Normalization
from anomalib_xray.edge.predictor import open_predictor
from anomalib_xray.edge.scope import Scope
from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png

from .tiny_bundle import CROP, SIDE, write_bundle
from .tiny_bundle import seal as write_digest

MakeBundle = Callable[..., Path]


def onnx_file(folder: Path, location: str) -> Path:
    """Bytes in which an ONNX tensor says that its values are in another file."""
    name = location.encode()
    length = bytes([len(name)]) if len(name) < 128 else bytes([len(name) % 128 + 128, len(name) // 128])
    path = folder / "model.onnx"
    path.write_bytes(b"\x08\x0aB\x05graph\x0a\x08location\x12" + length + name + b"\x0a\x06offset\x12\x010")
    return path


def test_what_a_bundle_says(tmp_path: Path) -> None:
    bundle = Bundle.open(write_bundle(tmp_path / "b", preparation=CROP))
    assert (bundle.format, bundle.model, bundle.scores, bundle.score) == (4, "Tiny", ("brightest", "mean"), "brightest")
    assert bundle.thresholds == {"brightest": 0.4, "mean": None}
    assert set(bundle.models) == {"fp32", "fp16"}
    assert all(path.is_file() for path in bundle.models.values())
    assert bundle.pipeline == tmp_path / "b" / "preparation" / "pipeline.yaml"
    assert bundle.map_limits == (0.0, 0.6)


def test_the_description_itself_may_be_given(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b")
    assert Bundle.open(folder / "bundle.json").folder == Bundle.open(str(folder)).folder == folder


@pytest.mark.parametrize("old", [False, True])
def test_a_stock_export_is_a_bundle_of_one_score(make_bundle: MakeBundle, old: bool) -> None:
    bundle = Bundle.open(make_bundle(image=(0.4, 0.1, 0.9), pixel=(0.2, 0.0, 1.0), old=old))
    assert (bundle.format, bundle.model) == (1 if old else 4, "Tiny")
    assert (bundle.scores, bundle.thresholds) == (("brightest",), {"brightest": 0.4})
    assert bundle.normalization == Normalization(image=(0.1, 0.9), pixel=(0.0, 1.0))
    assert (bundle.distribution, bundle.preparation, bundle.data.normal) == ({}, None, None)
    assert (bundle.pixel_threshold, bundle.map_limits) == (0.2, (0.0, 1.0))
    assert bundle.models == {"fp32": bundle.folder / "model.xml"}


@pytest.mark.parametrize("old", [False, True])
def test_takes_the_file_the_folder_or_the_run_around_it(make_bundle: MakeBundle, old: bool) -> None:
    folder = make_bundle("run/weights/openvino", old=old)
    for path in (folder / "model.xml", folder, folder.parent.parent):
        assert Bundle.open(path).models["fp32"].resolve() == (folder / "model.xml").resolve()


def test_openvino_goes_before_onnx(make_bundle: MakeBundle) -> None:
    run = make_bundle("run/weights/openvino").parent.parent
    make_bundle("run/weights/onnx", model="Other")
    assert Bundle.open(run).model == "Tiny"
    shutil.rmtree(run / "weights/openvino")
    assert Bundle.open(run).model == "Other"


@pytest.mark.parametrize("old", [False, True])
def test_another_model_than_the_described_one_is_refused(make_bundle: MakeBundle, old: bool) -> None:
    folder = make_bundle(old=old)
    onnx_file(folder, "weights").rename(folder / "other.onnx")
    with pytest.raises(XrayError, match=r"describes another model|lacks its weights"):
        Bundle.open(folder / "other.onnx")


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match=r"There is no bundle .*nowhere"):
        Bundle.open(tmp_path / "nowhere")


def test_a_folder_without_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="holds no model"):
        Bundle.open(tmp_path)


def test_another_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").touch()
    with pytest.raises(XrayError, match=r"model\.ckpt is not a model"):
        Bundle.open(tmp_path / "model.ckpt")


def test_a_model_without_description_is_refused(make_bundle: MakeBundle) -> None:
    folder = make_bundle()
    (folder / "bundle.json").unlink()
    for path in (folder, folder / "model.xml"):
        with pytest.raises(XrayError, match=r"has no bundle\.json: export it again"):
            Bundle.open(path)


def onnx_bundle(make_bundle: MakeBundle, location: str, *files: str) -> Path:
    """A stock export to ONNX, whose model says that its weights are at a location."""
    folder = make_bundle()
    onnx_file(folder, location)
    for name in files:
        (folder / name).touch()
    listed = {name: sha256(folder / name) for name in ("model.onnx", *files)}
    path = folder / "bundle.json"
    about = {"precisions": {"fp32": {"model": "model.onnx"}}, "files": listed}
    path.write_text(json.dumps(json.loads(path.read_text()) | about))
    return write_digest(folder)


@pytest.mark.parametrize("name", ["model.onnx.data", "weights" * 30])
def test_weights_of_an_onnx_model_must_lie_beside_it(make_bundle: MakeBundle, name: str) -> None:
    folder = onnx_bundle(make_bundle, name)
    with pytest.raises(XrayError, match=f"lacks its weights {name}"):
        Bundle.open(folder)
    (folder / name).touch()
    with pytest.raises(XrayError, match=f"has no checksum of the weights {name}"):
        Bundle.open(folder)
    content = json.loads((folder / "bundle.json").read_text())
    content["files"][name] = sha256(folder / name)
    (folder / "bundle.json").write_text(json.dumps(content))
    assert Bundle.open(write_digest(folder)).models["fp32"].name == "model.onnx"


@pytest.mark.parametrize("location", ["../model.onnx.data", "/etc/passwd", "sub/data", "..\\data", ".."])
def test_weights_outside_of_the_folder_are_refused(make_bundle: MakeBundle, location: str) -> None:
    with pytest.raises(XrayError, match=r"refers to weights outside|lacks its weights"):
        Bundle.open(onnx_bundle(make_bundle, location))


def test_an_empty_onnx_file_is_refused(make_bundle: MakeBundle) -> None:
    folder = make_bundle(old=True)
    (folder / "model.xml").unlink()
    (folder / "model.onnx").touch()
    with pytest.raises(XrayError, match="is empty"):
        Bundle.open(folder)


def test_missing_weights_are_named(make_bundle: MakeBundle) -> None:
    for old in (False, True):
        folder = make_bundle(str(old), old=old)
        (folder / "model.bin").unlink()
        with pytest.raises(XrayError, match=r"lacks (its weights )?model\.bin"):
            Bundle.open(folder)


@pytest.mark.parametrize("name", ["metadata.json", "model.xml", "model.bin"])
def test_a_changed_export_of_an_earlier_version_is_refused(make_bundle: MakeBundle, name: str) -> None:
    folder = make_bundle(image=(0.5, 0.0, 2.0), old=True)
    files = [folder / other for other in ("metadata.json", "model.xml", "model.bin")]
    (folder / "metadata.sha256").write_text("".join(f"{sha256(file)}  {file.name}\n" for file in files))
    Bundle.open(folder)
    (folder / name).write_bytes((folder / name).read_bytes().replace(b"0.5", b"1.5") + b" ")
    with pytest.raises(XrayError, match=f"{re.escape(name)} is not what it was"):
        Bundle.open(folder)


@pytest.mark.parametrize("line", ["0  ../metadata.json", "0  gone.bin", "nonsense", "0  a\\b"])
def test_checksums_of_other_files_are_refused(make_bundle: MakeBundle, line: str) -> None:
    folder = make_bundle(old=True)
    (folder / "metadata.sha256").write_text(f"{line}\n")
    with pytest.raises(XrayError, match=r"which does not lie beside it|lacks gone\.bin"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": 2}, "'format' in"),
        ({"threshold": {"image": None}}, "lacks the key 'threshold.pixel'"),
        ({"score": 3}, "'score' in"),
        ({"normalization": {"image": [1.0, 1.0], "pixel": None}}, "'normalization.image' must be"),
    ],
)
def test_a_wrong_description_of_an_earlier_version_is_refused(
    make_bundle: MakeBundle, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(XrayError, match=re.escape(sentence)):
        Bundle.open(make_bundle(old=True, **changes))


@pytest.mark.parametrize("name", ["fp16/model.bin", "fp32/model.xml", "README.md", "preparation/pipeline.yaml"])
def test_a_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_bundle(tmp_path / "b", preparation=CROP)
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(XrayError, match=f"{name} is not what it was"):
        Bundle.open(folder)


@pytest.mark.parametrize("name", ["fp16/model.bin", "README.md"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_bundle(tmp_path / "b")
    (folder / name).unlink()
    with pytest.raises(XrayError, match=f"incomplete: it lacks {name}"):
        Bundle.open(folder)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b")
    outside = tmp_path / "outside.bin"
    (folder / "fp32" / "model.bin").rename(outside)
    (folder / "fp32" / "model.bin").symlink_to(outside)
    with pytest.raises(XrayError, match=r"fp32/model\.bin lies outside"):
        Bundle.open(folder)


def in_a_cache(folder: Path, cache: Path) -> Path:
    """Hugging Face's cache with a folder in it: links to files that are named by their content."""
    snapshot = cache / "snapshots" / "0a1b"
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        link, blob = snapshot / path.relative_to(folder), cache / "blobs" / str(number)
        for place in (link, blob):
            place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(blob)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


def test_a_snapshot_in_the_cache_of_a_hub_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_bundle(tmp_path / "b", preparation=CROP)
    digest = Bundle.open(folder).digest
    snapshot = in_a_cache(folder, tmp_path / "models--owner--b")
    assert Bundle.open(snapshot).digest == digest
    monkeypatch.chdir(snapshot)
    assert Bundle.open(".").digest == digest
    picture = np.full((SIDE, SIDE), 99, np.uint8)
    assert open_predictor(snapshot).predict(picture).value == pytest.approx(99 / 255, rel=1e-3)
    (snapshot / "fp32" / "model.bin").unlink()
    (tmp_path / "outside.bin").write_bytes(b"")
    (snapshot / "fp32" / "model.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(XrayError, match=r"fp32/model\.bin lies outside"):
        Bundle.open(snapshot)


def test_a_bundle_without_description_is_no_bundle(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b")
    (folder / "bundle.json").unlink()
    with pytest.raises(XrayError, match="holds no model"):
        Bundle.open(folder)


def test_a_folder_of_absurd_size_is_refused_unread(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", files={"huge.bin": b""})
    with (folder / "huge.bin").open("wb") as file:
        file.truncate(5_000_000_000)  # sparse: takes no space
    with pytest.raises(XrayError, match="more than 4000000000 bytes"):
        Bundle.open(folder)


def test_checksums_are_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"anything" * 100_000)
    assert sha256(tmp_path / "x") == hashlib.sha256(b"anything" * 100_000).hexdigest()


def test_broken_descriptions_are_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", score="unknown")
    assert json.loads((folder / "bundle.json").read_text())["score"] == "unknown"
    with pytest.raises(XrayError, match="none of the scores"):
        Bundle.open(folder)


def test_a_changed_description_is_refused_by_every_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_bundle(tmp_path / "b")
    path = folder / "bundle.json"
    path.write_text(path.read_text().replace('"brightest": 0.4', '"brightest": 0.9'))
    monkeypatch.chdir(tmp_path)
    write_png(tmp_path / "a.png", np.full((8, 8), 9, np.uint8))
    for command in (["predict", "[a.png]"], ["bench"], ["serving"], ["app", "--port", "0"]):
        assert main([*command, "--bundle", "b" if command[0] in ("bench", "serving") else "[b]"]) == 2
        assert "bundle.json is not what it was when the bundle was made" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b"}


def test_its_digest_is_that_of_its_description(tmp_path: Path, make_bundle: Callable[..., Path]) -> None:
    folder = write_bundle(tmp_path / "b")
    assert Bundle.open(folder).digest == hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
    export = make_bundle("export", old=True)
    assert Bundle.open(export).digest == hashlib.sha256((export / "metadata.json").read_bytes()).hexdigest()


@pytest.mark.parametrize("content", [None, b"", b"0" * 64, b"\xff\x00", "folder"])
def test_a_checksum_that_is_missing_or_another_is_refused(tmp_path: Path, content: bytes | str | None) -> None:
    folder = write_bundle(tmp_path / "b")
    (folder / "bundle.sha256").unlink()
    if content == "folder":
        (folder / "bundle.sha256").mkdir()
    elif isinstance(content, bytes):
        (folder / "bundle.sha256").write_bytes(content)
    with pytest.raises(XrayError, match=r"lacks bundle\.sha256|is not what it was") as caught:
        Bundle.open(folder)
    assert str(folder) in str(caught.value)


def test_an_older_bundle_is_refused_with_the_command_that_makes_it_anew(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", format=2)
    (folder / "bundle.sha256").unlink()
    with pytest.raises(XrayError, match=r"of format 2.*bundle --checkpoint MODEL\.ckpt --out NEW_FOLDER"):
        Bundle.open(folder)


def test_the_scope_is_read(tmp_path: Path) -> None:
    scope = {"body_parts": ["HAND"], "views": [], "sides": [64, 512]}
    bundle = Bundle.open(write_bundle(tmp_path / "b", scope=scope))
    assert bundle.scope == Scope(("HAND",), (), (64, 512))


@pytest.mark.parametrize(
    ("data", "count"), [({"images": 38, "normal": 17, "abnormal": 21}, 17), ({"images": 38}, None)]
)
def test_normal_images_are_counted_without_the_abnormal_ones(
    tmp_path: Path, data: dict[str, int], count: int | None
) -> None:
    assert Bundle.open(write_bundle(tmp_path / "b", data=data)).data.normal == count
