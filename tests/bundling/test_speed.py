from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anomalib_xray import NOTICE
from anomalib_xray.bundling.backends import Backend, backends_of, resident_bytes
from anomalib_xray.bundling.speed import Timing, _originals, measure, rows_of
from anomalib_xray.cli import main
from anomalib_xray.edge.bundle import Bundle
from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png

CROP = "steps:\n  - resize: {longest_side: 32}\n"


@pytest.fixture
def bundle(write_tiny_bundle: Callable[..., Path], tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "bundle", preparation=CROP)


def test_every_form_is_a_row_and_torch_is_not_needed(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_png(tmp_path / "a.png", np.full((40, 30), 90, np.uint8))
    arguments = ["--bundle", bundle, "--images", f"[{tmp_path / 'a.png'}]", "--runs", 3, "--threads", 1]
    assert main(["bench", *map(str, arguments), "--out", str(tmp_path / "bench.json")]) == 0
    content = json.loads((tmp_path / "bench.json").read_text())
    assert (content["model"], content["runs"], content["threads"]) == ("Tiny", 3, 1)
    assert content["pictures"] == "1 given radiographs"
    rows = {row["backend"]: row for row in content["rows"]}
    measured = {name for name, row in rows.items() if "problem" not in row}
    assert measured == {
        "OpenVINO fp32", "OpenVINO fp32, own arithmetic", "OpenVINO fp16", "preparation and model, fp32",
    }  # fmt: skip
    for name in measured:
        row = rows[name]
        assert 0 < row["fastest_ms"] <= row["median_ms"] <= row["p95_ms"]
        assert row["images_per_second"] > 0
        assert row["start_s"] > row["median_ms"] / 1000
        # A process with openvino and numpy has tens of megabytes, one with torch several hundred.
        assert row["memory_mb"] is None or 20 < row["memory_mb"] < 400
        assert row["speed_up"] is None
    assert rows["torch, eager"]["problem"] == "no --checkpoint was given"
    assert rows["OpenVINO int8"]["problem"] == "AUROC fell by 0.9 points."
    printed = capsys.readouterr().out
    assert NOTICE in printed
    assert "OpenVINO int8 was not measured: AUROC fell by 0.9 points." in " ".join(printed.split())


def test_a_form_that_fails_is_a_row_and_the_others_go_on(bundle: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.full((40, 30), 90, np.uint8))
    working = Backend("works", "openvino", str(bundle / "fp32" / "model.xml"), "f32")
    (tmp_path / "model.xml").write_text("no model")
    broken = Backend("broken", "openvino", str(tmp_path / "model.xml"), "f32")
    found = measure([broken, working], [tmp_path / "a.png"], [tmp_path / "a.png"], runs=2, threads=1)
    assert "cannot be loaded" in found[0].problem
    assert found[0].seconds == []
    assert len(found[1].seconds) == 2
    assert found[1].problem == ""


def test_the_figures_are_those_of_the_times() -> None:
    torch = Backend("torch, eager", "torch", "")
    seconds = [0.04, 0.01, 0.02, 0.03]
    rows = rows_of([
        Timing(torch, 9.0, [0.2, 0.1, 0.3], 10**9),
        Timing(replace(torch, name="OpenVINO fp32", kind="openvino"), 1.0, seconds, 10**8),
        Timing(replace(torch, name="whole path", kind="predictor"), 1.0, seconds, None),
        Timing(replace(torch, name="missing"), problem="is missing"),
    ])  # fmt: skip
    assert rows[1] == {
        "backend": "OpenVINO fp32",
        "fastest_ms": pytest.approx(10),
        "median_ms": pytest.approx(25),
        "p95_ms": pytest.approx(38.5),
        "images_per_second": pytest.approx(40),
        "speed_up": pytest.approx(8),
        "memory_mb": 100,
        "start_s": 1.0,
    }
    # What includes the preparation is no comparison of models.
    assert (rows[2]["speed_up"], rows[2]["memory_mb"]) == (None, None)
    assert rows[3] == {"backend": "missing", "problem": "is missing"}


def test_rows_say_what_is_missing(bundle: Path, tmp_path: Path) -> None:
    rows = {row.name: row for row in backends_of(Bundle.open(bundle), tmp_path / "a.ckpt", tmp_path / "m.onnx", None)}
    assert rows["torch, eager"].missing == ""
    assert rows["OpenVINO fp16"].missing == ""
    assert rows["preparation and model, int8"].missing


def test_memory_is_that_of_the_process() -> None:
    before = resident_bytes()
    if before is None:
        pytest.skip("The system does not say how much memory a process has.")
    block = np.ones(60_000_000, np.uint8)
    after = resident_bytes()
    assert after is not None
    assert after >= block.nbytes


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--runs", "0"], "0 runs measure nothing"),
        (["--threads", "0"], "0 threads cannot compute anything"),
        (["--checkpoint", "nowhere.ckpt"], "nowhere.ckpt is no file"),
    ],
)
def test_mistakes_are_one_sentence(
    options: list[str], sentence: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--bundle", str(bundle), *options]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert printed.count("\n") == 1


def test_a_damaged_radiograph_is_left_out_of_the_measurement(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_png(tmp_path / "b.png", np.ones((4, 4), np.uint8))
    (tmp_path / "a.png").write_bytes(b"nothing")
    pictures, said = _originals([tmp_path], is_raw=False)
    assert (len(pictures), said) == (1, "1 given radiographs")
    assert "left out: " in caplog.text
    with pytest.raises(XrayError, match="None of the given radiographs"):
        _originals([tmp_path / "a.png"], is_raw=False)
