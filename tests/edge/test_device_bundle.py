from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from anomalib_xray.edge.device_bundle import DeviceBundle, sha256
from anomalib_xray.errors import XrayError

from .tiny_bundle import CROP, write_bundle


def test_what_a_bundle_says(tmp_path: Path) -> None:
    bundle = DeviceBundle.open(write_bundle(tmp_path / "b", preparation=CROP))
    assert (bundle.format, bundle.model, bundle.scores, bundle.score) == (2, "Tiny", ("brightest", "mean"), "brightest")
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
