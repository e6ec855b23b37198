from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anomalib_xray.cli import main
from anomalib_xray.edge.bundle import sha256
from anomalib_xray.edge.device_bundle import DeviceBundle
from anomalib_xray.edge.scope import Scope
from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png

from .tiny_bundle import CROP, seal, write_bundle


def test_what_a_bundle_says(tmp_path: Path) -> None:
    bundle = DeviceBundle.open(write_bundle(tmp_path / "b", preparation=CROP))
    assert (bundle.format, bundle.model, bundle.scores, bundle.score) == (3, "Tiny", ("brightest", "mean"), "brightest")
    assert bundle.thresholds == {"brightest": 0.4, "mean": None}
    assert set(bundle.models) == {"fp32", "fp16"}
    assert all(path.is_file() for path in bundle.models.values())
    assert bundle.preparation == tmp_path / "b" / "preparation" / "pipeline.yaml"
    assert bundle.map_limits == (0.0, 0.6)


def test_the_description_itself_may_be_given(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b")
    assert DeviceBundle.open(folder / "bundle.json").folder == DeviceBundle.open(str(folder)).folder == folder


def test_a_stock_export_is_a_bundle_of_one_score(make_bundle: Callable[..., Path]) -> None:
    bundle = DeviceBundle.open(make_bundle(image=(0.4, 0.1, 0.9), pixel=(0.2, 0.0, 1.0)))
    assert (bundle.format, bundle.scores, bundle.thresholds) == (1, ("brightest",), {"brightest": 0.4})
    assert (bundle.distribution, bundle.preparation) == ({}, None)
    assert (bundle.pixel_threshold, bundle.map_limits) == (0.2, (0.0, 1.0))
    assert set(bundle.models) == {"fp32"}


@pytest.mark.parametrize("name", ["fp16/model.bin", "fp32/model.xml", "README.md", "preparation/pipeline.yaml"])
def test_a_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    folder = write_bundle(tmp_path / "b", preparation=CROP)
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(XrayError, match=f"{name} is not what it was"):
        DeviceBundle.open(folder)


@pytest.mark.parametrize("name", ["fp16/model.bin", "README.md"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_bundle(tmp_path / "b")
    (folder / name).unlink()
    with pytest.raises(XrayError, match=f"incomplete: it lacks {name}"):
        DeviceBundle.open(folder)


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b")
    outside = tmp_path / "outside.bin"
    (folder / "fp32" / "model.bin").rename(outside)
    (folder / "fp32" / "model.bin").symlink_to(outside)
    with pytest.raises(XrayError, match=r"fp32/model\.bin lies outside"):
        DeviceBundle.open(folder)


def test_a_bundle_without_description_is_no_bundle(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b")
    (folder / "bundle.json").unlink()
    with pytest.raises(XrayError, match="holds no model"):
        DeviceBundle.open(folder)


def test_a_folder_of_absurd_size_is_refused_unread(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", files={"huge.bin": b""})
    with (folder / "huge.bin").open("wb") as file:
        file.truncate(5_000_000_000)  # sparse: takes no space
    with pytest.raises(XrayError, match="more than 4000000000 bytes"):
        DeviceBundle.open(folder)


def test_checksums_are_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"anything" * 100_000)
    assert sha256(tmp_path / "x") == hashlib.sha256(b"anything" * 100_000).hexdigest()


def test_broken_descriptions_are_refused(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", score="unknown")
    assert json.loads((folder / "bundle.json").read_text())["score"] == "unknown"
    with pytest.raises(XrayError, match="none of the scores"):
        DeviceBundle.open(folder)


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
    assert DeviceBundle.open(folder).digest == hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
    export = make_bundle("export")
    assert DeviceBundle.open(export).digest == hashlib.sha256((export / "metadata.json").read_bytes()).hexdigest()


@pytest.mark.parametrize("content", [None, b"", b"0" * 64, b"\xff\x00", "folder"])
def test_a_checksum_that_is_missing_or_another_is_refused(tmp_path: Path, content: bytes | str | None) -> None:
    folder = write_bundle(tmp_path / "b")
    (folder / "bundle.sha256").unlink()
    if content == "folder":
        (folder / "bundle.sha256").mkdir()
    elif isinstance(content, bytes):
        (folder / "bundle.sha256").write_bytes(content)
    with pytest.raises(XrayError, match=r"lacks bundle\.sha256|is not what it was") as caught:
        DeviceBundle.open(folder)
    assert str(folder) in str(caught.value)


def test_an_older_bundle_is_refused_with_the_command_that_makes_it_anew(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", format=2)
    (folder / "bundle.sha256").unlink()
    with pytest.raises(XrayError, match=r"of format 2.*bundle --checkpoint MODEL\.ckpt --out NEW_FOLDER"):
        DeviceBundle.open(folder)


def test_the_scope_is_read(tmp_path: Path) -> None:
    scope = {"body_parts": ["HAND"], "views": [], "sides": [64, 512]}
    bundle = DeviceBundle.open(seal(write_bundle(tmp_path / "b", scope=scope)))
    assert bundle.scope == Scope(("HAND",), (), (64, 512))
    assert bundle.scope.as_json() == scope


@pytest.mark.parametrize(
    ("data", "count"), [({"images": 38, "normal": 17, "abnormal": 21}, 17), ({"images": 38}, None)]
)
def test_normal_images_are_counted_without_the_abnormal_ones(
    tmp_path: Path, data: dict[str, int], count: int | None
) -> None:
    assert DeviceBundle.open(write_bundle(tmp_path / "b", data=data)).normal_images == count
