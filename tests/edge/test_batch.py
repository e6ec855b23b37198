from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomalib_xray import NOTICE
from anomalib_xray.commands.predict import predict
from anomalib_xray.edge import batch
from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import with_list
from anomalib_xray.io.write import write_png

from .tiny_bundle import write_bundle


def write_images(folder: Path, **levels: int) -> Path:
    for name, level in levels.items():
        write_png(folder / f"{name}.png", np.full((20, 16), level, np.uint8))
    return folder


def type_in(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(content)))


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_for_each_image_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, bundle = write_images(tmp_path / "in", a=51, b=204), write_bundle(tmp_path / "bundle")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    type_in(monkeypatch, f"{images / 'b.png'}\n\nmissing.png\n{tmp_path}\n{images / 'a.png'}".encode())
    assert predict([Path("-"), images], [bundle], stream=True) == 1
    printed = capsys.readouterr()
    lines = lines_of(printed.out)
    names = ["b.png", "missing.png", tmp_path.name, "a.png", "a.png", "b.png"]
    assert [Path(line["path"]).name for line in lines] == names
    assert [line["error"] is None for line in lines] == [True, False, False, True, True, True]
    assert all(line["notice"] == NOTICE for line in lines)
    said = lines[0]["bundles"]["Tiny"]
    assert said["scores"] == pytest.approx({"brightest": 0.8, "mean": 0.8}, rel=1e-6)
    assert said["percentiles"] == {"brightest": 100.0, "mean": None}
    assert (said["threshold"], said["label"]) == (0.4, "anomalous")
    assert "bundles" not in lines[1]
    assert NOTICE in printed.err
    assert list(Path().iterdir()) == []


def test_an_image_is_answered_before_the_next_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from anomalib_xray.edge.ensemble import Ensemble
    from anomalib_xray.edge.predictor import open_predictor

    images = write_images(tmp_path / "in", a=51, b=204)
    answered: list[str] = []

    def named() -> Iterator[Path]:
        for name in ("a.png", "b.png"):
            yield images / name
            answered.extend(line["path"] for line in lines_of(capsys.readouterr().out))
            assert answered[-1].endswith(name)

    ensemble = Ensemble([open_predictor(write_bundle(tmp_path / "bundle"))])
    assert batch.predict_stream(ensemble, named(), None) == 0
    assert len(answered) == 2


def test_an_interruption_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(batch, "_scored", interrupted)
    images = write_images(tmp_path / "in", a=51)
    assert predict([images], [write_bundle(tmp_path / "bundle")], stream=True) == 130


def test_names_may_be_any_bytes_and_parted_by_nul(monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, b"a b.png\0\xff.png\0new\nc.png\r\n")
    assert list(with_list([Path("x"), Path("-")])) == [
        Path(name) for name in ("x", "a b.png", "\udcff.png", "new", "c.png")
    ]


def test_a_stream_of_captures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="A stream writes no file"):
        predict([tmp_path], [write_bundle(tmp_path / "bundle")], stream=True, dicom_sc=True)


def test_a_folder_without_images_is_a_line_and_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    images, bundle = write_images(tmp_path / "in", a=51), write_bundle(tmp_path / "bundle")
    (tmp_path / "empty").mkdir()
    assert predict([tmp_path / "empty", images], [bundle], stream=True) == 1
    assert [line["error"] is None for line in lines_of(capsys.readouterr().out)] == [False, True]
    assert "empty holds no PNG, JPEG or DICOM file" in caplog.text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig", "utf-8"])
def test_a_list_of_another_shell_is_read_as_it_is_meant(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "E/a.png\r\nE/ö b.png\r\n".encode(encoding)
    type_in(monkeypatch, content)
    assert list(with_list([Path("-")])) == [Path("E/a.png"), Path("E/ö b.png")]


def test_a_list_that_is_broken_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    content = "E/a.png\n".encode("utf-16")[:-1]
    type_in(monkeypatch, content)
    with pytest.raises(XrayError, match="no whole UTF-16 text"):
        list(with_list([Path("-")]))
