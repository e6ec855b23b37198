from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from anomalib_xray.edge import batch
from anomalib_xray.edge.batch import COLUMNS
from anomalib_xray.edge.bundle import NOTICE
from anomalib_xray.edge.command import predict
from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png

MakeBundle = Callable[..., Path]
SCALE = (0.4, 0.1, 0.9)


def write_images(folder: Path, **levels: int) -> Path:
    for name, level in levels.items():
        write_png(folder / f"{name}.png", np.full((20, 16), level, np.uint8))
    return folder


def read_table(out: Path) -> list[dict[str, str]]:
    with (out / "scores.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_scores_draws_and_reports(make_bundle: MakeBundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, out = write_images(tmp_path / "in", a=51, b=204), tmp_path / "out"
    assert predict(make_bundle(image=SCALE, pixel=SCALE), [images], out) == 0
    dim, bright = read_table(out)
    assert tuple(dim) == COLUMNS
    assert float(dim["score"]) == pytest.approx(0.2, rel=1e-5)
    assert float(bright["score"]) == pytest.approx(0.8, rel=1e-5)
    assert float(bright["normalised"]) == pytest.approx(0.5 + 0.5 / 2, rel=1e-5)
    assert (dim["label"], bright["label"]) == ("not anomalous", "anomalous")
    assert dim["threshold"] == bright["threshold"] == "0.4"
    assert bright["path"] == str(images / "b.png")
    assert cv2.imread(str(out / "a_overlay.png")) is not None
    printed = capsys.readouterr().out.splitlines()
    assert NOTICE in printed
    assert f"{images / 'b.png'}: score 0.8, threshold 0.4, anomalous" in printed


def test_the_given_threshold_decides(make_bundle: MakeBundle, tmp_path: Path) -> None:
    images, out = write_images(tmp_path / "in", a=204), tmp_path / "out"
    predict(make_bundle(image=SCALE), [images], out, threshold=0.9)
    assert (read_table(out)[0]["threshold"], read_table(out)[0]["label"]) == ("0.9", "not anomalous")


def test_without_threshold_nothing_is_decided(make_bundle: MakeBundle, tmp_path: Path) -> None:
    images, out = write_images(tmp_path / "in", a=204), tmp_path / "out"
    assert predict(make_bundle(with_map=False), [images], out) == 0
    row = read_table(out)[0]
    assert (row["normalised"], row["threshold"], row["label"], row["error"]) == ("", "", "", "")


def test_broken_images_become_rows_and_the_rest_goes_on(
    make_bundle: MakeBundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = write_images(tmp_path / "in", a=51, c=51), tmp_path / "out"
    (images / "b.png").write_bytes((images / "a.png").read_bytes()[:40])
    missing = tmp_path / "in" / "missing.png"
    assert predict(make_bundle(), [images, missing], out) == 1
    rows = {Path(row["path"]).name: row for row in read_table(out)}
    assert [name for name, row in rows.items() if row["error"]] == ["b.png", "missing.png"]
    assert rows["b.png"]["score"] == ""
    assert rows["c.png"]["score"] != ""
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert all(line.startswith("error: ") for line in errors)
    assert not (out / "b_overlay.png").exists()


def test_running_again_changes_nothing(make_bundle: MakeBundle, tmp_path: Path) -> None:
    images = write_images(tmp_path / "in", a=51, b=99)
    bundle, out = make_bundle(image=SCALE), images / "out"
    predict(bundle, [images], out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    predict(bundle, [images], out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_an_interruption_keeps_what_was_written(
    make_bundle: MakeBundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, out = write_images(tmp_path / "in", a=51, b=52, c=53), tmp_path / "out"
    predict_one = batch._predict_one

    def interrupted_at_b(runtime: object, image: object, threshold: float | None) -> dict[str, str]:
        if image.path.name == "b.png":  # type: ignore[attr-defined]  # an Input
            raise KeyboardInterrupt
        return predict_one(runtime, image, threshold)  # type: ignore[arg-type]  # what the command gives

    monkeypatch.setattr(batch, "_predict_one", interrupted_at_b)
    assert predict(make_bundle(), [images], out) == 130
    assert [Path(row["path"]).name for row in read_table(out)] == ["a.png"]
    assert (out / "a_overlay.png").exists()
    assert capsys.readouterr().out.splitlines()[-1].startswith("Stopped after 1 of 3 images")


def test_names_cannot_command_the_terminal(
    make_bundle: MakeBundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "in"
    write_images(images, **{"\x1b[31m[bold]": 51, "undecodable\udcff": 52})
    assert predict(make_bundle(), [images], tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "[31m[bold].png" in printed
    assert "undecodable\N{REPLACEMENT CHARACTER}.png" in printed


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_that_is_no_number_is_refused(make_bundle: MakeBundle, tmp_path: Path, threshold: float) -> None:
    with pytest.raises(XrayError, match="decides nothing"):
        predict(make_bundle(), [write_images(tmp_path / "in", a=51)], tmp_path / "out", threshold=threshold)


def test_a_folder_that_cannot_be_written_is_named(make_bundle: MakeBundle, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(XrayError, match=r"scores\.csv cannot be written"):
        predict(make_bundle(), [write_images(tmp_path / "in", a=51)], tmp_path / "out")
