from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomalib_xray.edge.bundle import Bundle, Scale, checksums_of
from anomalib_xray.errors import XrayError

MakeBundle = Callable[..., Path]


def change(folder: Path, **values: Any) -> None:
    file = folder / "metadata.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def onnx_file(folder: Path, location: str) -> Path:
    """Bytes in which an ONNX tensor says that its values are in another file."""
    name = location.encode()
    length = bytes([len(name)]) if len(name) < 128 else bytes([len(name) % 128 + 128, len(name) // 128])
    path = folder / "model.onnx"
    path.write_bytes(b"\x08\x0aB\x05graph\x0a\x08location\x12" + length + name + b"\x0a\x06offset\x12\x010")
    return path


def test_reads_what_the_export_wrote(make_bundle: MakeBundle) -> None:
    bundle = Bundle.open(make_bundle(image=(0.5, 0.0, 2.0)))
    assert (bundle.model, bundle.score, bundle.settings) == ("Tiny", "brightest", {"image_size": 16})
    assert bundle.image == Scale(0.5, (0.0, 2.0))
    assert bundle.pixel == Scale(None, None)
    assert bundle.parity == {"passed": True}


def test_takes_the_file_the_folder_or_the_run_around_it(make_bundle: MakeBundle) -> None:
    folder = make_bundle("run/weights/openvino")
    opened = {Bundle.open(path).path.resolve() for path in (folder / "model.xml", folder, folder.parent.parent)}
    assert opened == {(folder / "model.xml").resolve()}


def test_openvino_goes_before_onnx(make_bundle: MakeBundle) -> None:
    run = make_bundle("run/weights/openvino").parent.parent
    shutil.copytree(run / "weights/openvino", run / "weights/onnx")
    (run / "weights/onnx/model.onnx").write_bytes(b"onnx")
    assert Bundle.open(run).path.suffix == ".xml"
    shutil.rmtree(run / "weights/openvino")
    (run / "weights/onnx/model.xml").unlink()
    assert Bundle.open(run).path.suffix == ".onnx"


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


def test_missing_weights_are_named(make_bundle: MakeBundle) -> None:
    folder = make_bundle()
    (folder / "model.bin").unlink()
    with pytest.raises(XrayError, match=r"lacks its weights model\.bin"):
        Bundle.open(folder)


@pytest.mark.parametrize("name", ["model.onnx.data", "weights" * 30])
def test_weights_of_an_onnx_model_must_lie_beside_it(make_bundle: MakeBundle, name: str) -> None:
    folder = make_bundle()
    model = onnx_file(folder, name)
    with pytest.raises(XrayError, match=f"lacks its weights {name}"):
        Bundle.open(model)
    (folder / name).touch()
    assert Bundle.open(model).path == model


@pytest.mark.parametrize("location", ["../model.onnx.data", "/etc/passwd", "sub/data", "..\\data", ".."])
def test_weights_outside_of_the_folder_are_refused(make_bundle: MakeBundle, location: str) -> None:
    model = onnx_file(make_bundle(), location)
    with pytest.raises(XrayError, match=r"refers to weights outside|lacks its weights"):
        Bundle.open(model)


def test_an_empty_onnx_file_is_refused(make_bundle: MakeBundle) -> None:
    folder = make_bundle()
    (folder / "model.onnx").touch()
    with pytest.raises(XrayError, match="is empty"):
        Bundle.open(folder / "model.onnx")


def test_missing_metadata_are_named(make_bundle: MakeBundle) -> None:
    folder = make_bundle()
    (folder / "metadata.json").unlink()
    with pytest.raises(XrayError, match=r"no metadata\.json"):
        Bundle.open(folder)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe{", b"[" * 100_000])
def test_broken_json_is_refused(make_bundle: MakeBundle, content: bytes) -> None:
    folder = make_bundle()
    (folder / "metadata.json").write_bytes(content)
    with pytest.raises(XrayError, match="is not valid JSON"):
        Bundle.open(folder)


def test_another_json_value_is_refused(make_bundle: MakeBundle) -> None:
    folder = make_bundle()
    (folder / "metadata.json").write_text("[1]")
    with pytest.raises(XrayError, match="holds no JSON object"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    "key", ["format", "model", "settings", "score", "threshold", "normalization", "parity", "versions"]
)
def test_a_missing_key_is_named(make_bundle: MakeBundle, key: str) -> None:
    folder = make_bundle()
    metadata = json.loads((folder / "metadata.json").read_text())
    del metadata[key]
    (folder / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(XrayError, match=f"lacks the key '{key}'"):
        Bundle.open(folder)


@pytest.mark.parametrize("key", ["threshold", "normalization"])
def test_a_missing_level_is_named(make_bundle: MakeBundle, key: str) -> None:
    folder = make_bundle()
    change(folder, **{key: {"image": None}})
    with pytest.raises(XrayError, match=f"'{key}.pixel'"):
        Bundle.open(folder)


def test_a_newer_format_asks_for_an_upgrade(make_bundle: MakeBundle) -> None:
    folder = make_bundle()
    change(folder, format=2, model=None)
    with pytest.raises(XrayError, match=r"format 2.*upgrade"):
        Bundle.open(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "1"),
        ("format", True),
        ("format", 0),
        ("model", 3),
        ("settings", []),
        ("score", None),
        ("threshold", 0.5),
        ("threshold", {"image": "0.5", "pixel": None}),
        ("threshold", {"image": float("nan"), "pixel": None}),
        ("threshold", {"image": True, "pixel": None}),
        ("normalization", {"image": [0], "pixel": None}),
        ("normalization", {"image": [0, "1"], "pixel": None}),
        ("normalization", {"image": [1, 1], "pixel": None}),
        ("normalization", {"image": [0, float("inf")], "pixel": None}),
        ("parity", None),
        ("versions", "1"),
    ],
)
def test_a_value_of_the_wrong_type_is_named(make_bundle: MakeBundle, key: str, value: object) -> None:
    folder = make_bundle()
    change(folder, **{key: value})
    with pytest.raises(XrayError, match=rf"'{key}(\.image)?' in .* must be"):
        Bundle.open(folder)


@pytest.mark.parametrize("name", ["metadata.json", "model.xml", "model.bin"])
def test_a_changed_export_is_refused(make_bundle: MakeBundle, name: str) -> None:
    folder = make_bundle(image=(0.5, 0.0, 2.0))
    files = [folder / other for other in ("metadata.json", "model.xml", "model.bin")]
    (folder / "metadata.sha256").write_text(checksums_of(files))
    Bundle.open(folder)
    (folder / name).write_bytes((folder / name).read_bytes().replace(b"0.5", b"1.5") + b" ")
    with pytest.raises(XrayError, match=f"{re.escape(name)} is not what it was when it was exported"):
        Bundle.open(folder)


@pytest.mark.parametrize("line", ["0  ../metadata.json", "0  gone.bin", "nonsense", "0  a\\b"])
def test_checksums_of_other_files_are_refused(make_bundle: MakeBundle, line: str) -> None:
    folder = make_bundle()
    (folder / "metadata.sha256").write_text(f"{line}\n")
    with pytest.raises(XrayError, match="which does not lie beside it"):
        Bundle.open(folder)
