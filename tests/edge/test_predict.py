from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from anomalib_xray import NOTICE
from anomalib_xray.cli import main
from anomalib_xray.commands.predict import predict
from anomalib_xray.edge import batch
from anomalib_xray.edge.ensemble import Ensemble
from anomalib_xray.edge.table import COLUMNS
from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom_write import write_secondary_capture
from anomalib_xray.io.inputs import Input
from anomalib_xray.io.write import write_png

from .tiny_bundle import write_bundle

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
    assert predict([images], [make_bundle(image=SCALE, pixel=SCALE)], out) == 0
    dim, bright = read_table(out)
    assert tuple(dim) == (*COLUMNS, "percentile", "flags", "overlay", "Tiny/brightest")
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
    predict([images], [make_bundle(image=SCALE)], out, threshold=0.9)
    assert (read_table(out)[0]["threshold"], read_table(out)[0]["label"]) == ("0.9", "not anomalous")


def test_without_threshold_nothing_is_decided(make_bundle: MakeBundle, tmp_path: Path) -> None:
    images, out = write_images(tmp_path / "in", a=204), tmp_path / "out"
    assert predict([images], [make_bundle(with_map=False)], out) == 0
    row = read_table(out)[0]
    assert (row["normalised"], row["threshold"], row["label"], row["error"]) == ("", "", "", "")


def test_broken_images_become_rows_and_the_rest_goes_on(
    make_bundle: MakeBundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = write_images(tmp_path / "in", a=51, c=51), tmp_path / "out"
    (images / "b.png").write_bytes((images / "a.png").read_bytes()[:40])
    missing = tmp_path / "in" / "missing.png"
    assert predict([images, missing], [make_bundle()], out) == 1
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
    predict([images], [bundle], out)
    before = {path: path.read_bytes() for path in out.iterdir()}
    predict([images], [bundle], out)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_an_interruption_keeps_what_was_written(
    make_bundle: MakeBundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, out = write_images(tmp_path / "in", a=51, b=52, c=53), tmp_path / "out"
    predict_one = batch._predict_one

    def interrupted_at_b(ensemble: Ensemble, image: Input, *rest: Any, **settings: Any) -> Any:
        if image.path.name == "b.png":
            raise KeyboardInterrupt
        return predict_one(ensemble, image, *rest, **settings)

    monkeypatch.setattr(batch, "_predict_one", interrupted_at_b)
    assert predict([images], [make_bundle()], out) == 130
    assert [Path(row["path"]).name for row in read_table(out)] == ["a.png"]
    assert (out / "a_overlay.png").exists()
    assert capsys.readouterr().out.splitlines()[-1].startswith("Stopped after 1 of 3 images")


def test_tables_name_the_overlay_of_each_image(make_bundle: MakeBundle, tmp_path: Path) -> None:
    images, out = tmp_path / "in", tmp_path / "out"
    write_images(images, a=51)
    names = ("1.2.840.5.567", "1.2.840.5.568", os.fsdecode(b"R\xf6ntgen"), "ö" * 127)
    for name in names:
        (images / name).write_bytes((images / "a.png").read_bytes())
    assert predict([images], [make_bundle()], out) == 0
    rows = {row["path"].rpartition("/")[2]: row["overlay"] for row in read_table(out)}
    assert rows["1.2.840.5.567"] == "1.2.840.5.567_overlay.png"
    assert rows["R\\udcf6ntgen"] == "R\\udcf6ntgen_overlay.png"
    entries = json.loads((out / "scores.json").read_text())["images"]
    overlays = {entry["path"].rpartition("/")[2]: entry["bundles"]["Tiny"]["overlay"] for entry in entries}
    assert set(overlays) == {"a.png", *names}
    assert len(set(overlays.values())) == 5
    for overlay in overlays.values():
        assert (out / overlay).is_file()


def test_each_bundles_overlay_is_named(make_bundle: MakeBundle, tmp_path: Path) -> None:
    images, out = write_images(tmp_path / "in", a=51), tmp_path / "out"
    assert predict([images], [make_bundle(), write_bundle(tmp_path / "second")], out) == 0
    (row,) = read_table(out)
    named = {column: value for column, value in row.items() if column.endswith(" overlay")}
    assert len(named) == 2
    for column, overlay in named.items():
        assert overlay == f"{column.removesuffix(' overlay')}/a_overlay.png"
        assert (out / overlay).is_file()


def test_names_cannot_command_the_terminal(
    make_bundle: MakeBundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "in"
    write_images(images, **{"\x1b[31m[bold]": 51, "undecodable\udcff": 52})
    assert predict([images], [make_bundle()], tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "[31m[bold].png" in printed
    assert "undecodable\\udcff.png" in printed


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_that_is_no_number_is_refused(make_bundle: MakeBundle, tmp_path: Path, threshold: float) -> None:
    with pytest.raises(XrayError, match="decides nothing"):
        predict([write_images(tmp_path / "in", a=51)], [make_bundle()], tmp_path / "out", threshold=threshold)


def test_a_folder_that_cannot_be_written_is_named(make_bundle: MakeBundle, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(XrayError, match=r"scores\.csv cannot be written"):
        predict([write_images(tmp_path / "in", a=51)], [make_bundle()], tmp_path / "out")


def test_every_named_score_stands_in_the_table_and_in_the_json(tmp_path: Path) -> None:
    images, out = write_images(tmp_path / "in", a=102), tmp_path / "out"
    (images / "b.png").write_bytes(b"nothing")
    assert predict([images], [write_bundle(tmp_path / "bundle")], out, score="mean") == 1
    row, broken = read_table(out)
    for column in ("normalised", "threshold", "label", "percentile", "flags", "error"):
        assert row[column] == ""
    assert row["score"] == row["Tiny/mean"]
    assert [float(row[f"Tiny/{name}"]) for name in ("brightest", "mean")] == pytest.approx([0.4, 0.4], rel=1e-6)
    assert broken["error"] != ""
    content = json.loads((out / "scores.json").read_text())
    assert content["notice"] == NOTICE
    assert content["bundles"]["Tiny"]["score"] == "mean"
    said, refused = content["images"]
    assert said["bundles"]["Tiny"]["percentiles"]["brightest"] == pytest.approx(50, abs=1e-3)
    assert [view["name"] for view in said["bundles"]["Tiny"]["views"]] == ["view 1"]
    assert "bundles" not in refused
    assert refused["error"] == broken["error"]


def test_several_bundles_are_fused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, out = write_images(tmp_path / "in", a=102), tmp_path / "out"
    lower = {"brightest": np.linspace(0.0, 0.5, 101).tolist()}
    bundles = [
        write_bundle(tmp_path / "one", model="Cae"),
        write_bundle(tmp_path / "two", model="Vae", distribution=lower, pixel_threshold=None),
    ]
    assert predict([images], bundles, out) == 0
    (row,) = read_table(out)
    assert list(row)[:3] == ["path", "fused", "error"]
    assert float(row["fused"]) == pytest.approx((50 + 80) / 2, abs=1e-3)
    assert float(row["Vae percentile"]) == pytest.approx(80, abs=1e-3)
    assert (row["Cae threshold"], float(row["Cae/mean"])) == ("0.4", pytest.approx(0.4, rel=1e-6))
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*_overlay.png")) == [
        "Cae/a_overlay.png",
        "Vae/a_overlay.png",
    ]
    assert json.loads((out / "scores.json").read_text())["fusion"] == "mean percentile among normal images"
    assert ": fused percentile 65; Cae score 0.4, " in capsys.readouterr().out


def test_what_prevents_a_fusion_is_said(
    make_bundle: MakeBundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = write_images(tmp_path / "in", a=102), tmp_path / "out"
    assert predict([images], [write_bundle(tmp_path / "new"), make_bundle("old")], out) == 0
    assert "There is no fused score: old knows no scores of normal images." in capsys.readouterr().out
    assert read_table(out)[0]["fused"] == ""


def test_a_threshold_of_several_bundles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="units of their own"):
        predict([tmp_path], [tmp_path / "one", tmp_path / "two"], threshold=0.5)


def test_without_a_bundle_nothing_can_be_done(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="--bundle FOLDER"):
        predict([tmp_path])


def test_overlays_of_several_bundles_replace_no_image(tmp_path: Path) -> None:
    out = tmp_path / "out"
    image = write_images(out, a=102) / "a.png"
    overwritten = write_images(out / "Cae", a_overlay=102) / "a_overlay.png"
    bundles = [write_bundle(tmp_path / name, model=name) for name in ("Cae", "Vae")]
    with pytest.raises(XrayError, match=r"a_overlay\.png is an image and would be replaced"):
        predict([image, overwritten], bundles, out)


def test_the_list_may_come_on_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, out = write_images(tmp_path / "in", a=51, b=204), tmp_path / "out"
    listed = f"{images / 'b.png'}\n{images / 'a.png'}\n".encode()
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(listed)))
    assert predict([Path("-")], [write_bundle(tmp_path / "bundle")], out) == 0
    assert [Path(row["path"]).name for row in read_table(out)] == ["b.png", "a.png"]


def test_a_secondary_capture_is_filed_with_its_radiograph(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    images, out = tmp_path / "in", tmp_path / "out"
    images.mkdir()
    write_secondary_capture(images / "hand.dcm", np.full((40, 30), 102, np.uint8), description="a radiograph")
    source = pydicom.dcmread(images / "hand.dcm")
    source.PatientName, source.PatientID, source.InstitutionName = "Doe^Jane", "17", "Somewhere"
    source.save_as(images / "hand.dcm")
    write_images(images, plain=102)
    assert predict([images], [write_bundle(tmp_path / "bundle")], out, dicom_sc=True, keep_patient=True) == 0
    capture = pydicom.dcmread(out / "hand_overlay.dcm")
    assert (capture.PatientName, capture.PatientID, capture.StudyInstanceUID) == (
        source.PatientName,
        source.PatientID,
        source.StudyInstanceUID,
    )
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert capture.ImageType == ["DERIVED", "SECONDARY"]
    assert (capture.BurnedInAnnotation, capture.ImageComments) == ("YES", NOTICE)
    assert "InstitutionName" not in capture
    drawn = cv2.imread(str(out / "hand_overlay.png"))
    np.testing.assert_array_equal(capture.pixel_array, drawn[:, :, ::-1])
    without = pydicom.dcmread(out / "plain_overlay.dcm")
    assert not without.PatientID
    assert "SourceImageSequence" not in without


def test_a_secondary_capture_names_nobody_unless_it_is_asked_to(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    (tmp_path / "in").mkdir()
    image, out = tmp_path / "in" / "Doe^Jane.dcm", tmp_path / "out"
    write_secondary_capture(image, np.full((40, 30), 102, np.uint8), description="a radiograph")
    source = pydicom.dcmread(image)
    source.PatientName, source.PatientID, source.ImagerPixelSpacing = "Doe^Jane", "17", [0.2, 0.2]
    source.save_as(image)
    bundles = [write_bundle(tmp_path / name, model=name) for name in ("Cae", "Vae")]
    assert predict([image], bundles, out, dicom_sc=True) == 0
    captures = [pydicom.dcmread(out / name / "Doe^Jane_overlay.dcm") for name in ("Cae", "Vae")]
    for capture in captures:
        assert capture.PatientName == capture.PatientID == ""
        assert "SourceImageSequence" not in capture
        assert list(capture.NominalScannedPixelSpacing) == [0.2 * 40 / 640] * 2
        drawn = cv2.imread(str(out / "Cae" / "Doe^Jane_overlay.png"))[:, :, ::-1]
        assert (capture.pixel_array[-20:] != drawn[-20:]).any() or (capture.pixel_array != drawn).any()
    assert captures[0].StudyInstanceUID == captures[1].StudyInstanceUID != source.StudyInstanceUID
    assert captures[0].SeriesInstanceUID != captures[1].SeriesInstanceUID
    assert "Cae" in captures[0].SeriesDescription
    if shutil.which("dciodvfy") is not None:  # Debian: dicom3tools
        written = [str(out / name / "Doe^Jane_overlay.dcm") for name in ("Cae", "Vae")]
        for path in written:
            found = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
            assert "SCImage" in found.stderr
            assert "Error" not in found.stderr
    with pytest.raises(XrayError, match="give --dicom_sc too"):
        predict([image], bundles, out, keep_patient=True)


def test_what_reading_a_header_noted_stands_among_the_flags(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    image, out = tmp_path / "a.dcm", tmp_path / "out"
    write_secondary_capture(image, np.arange(1200, dtype=np.uint16).reshape(40, 30).astype(np.uint8), description="a")
    source = pydicom.dcmread(image)
    source.WindowCenter, source.WindowWidth = 100, 0
    source.save_as(image)
    assert predict([image], [write_bundle(tmp_path / "bundle")], out) == 0
    assert read_table(out)[0]["flags"].split() == ["WindowWidth-ignored"]
    (entry,) = json.loads((out / "scores.json").read_text())["images"]
    assert entry["bundles"]["Tiny"]["flags"] == ["WindowWidth-ignored"]


def test_the_command_takes_bundles_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = write_images(tmp_path / "in", a=102) / "a.png"
    bundles = [str(write_bundle(tmp_path / name, model=name)) for name in ("Cae", "Vae")]
    arguments = ["--bundle", bundles[0], f"--bundle={bundles[1]}", "--stream", "true", "--precision", "fp16"]
    assert main(["predict", *arguments, str(image)]) == 0
    assert set(json.loads(capsys.readouterr().out)["bundles"]) == {"Cae", "Vae"}
