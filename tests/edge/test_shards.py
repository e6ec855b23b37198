"""Shards of a prediction that work on one folder at the same time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from anomalib_xray.cli import main
from anomalib_xray.edge.ensemble import Ensemble
from anomalib_xray.io.write import write_png
from anomalib_xray.shards import Shard

from .tiny_bundle import write_bundle

SLOW = """
import os, sys, time
from anomalib_xray.cli import main
from anomalib_xray.edge import batch
predict_one = batch._predict_one
def slow(ensemble, image, *arguments, **settings):
    if os.environ.get("HOLD") and os.path.exists(os.environ["HOLD"]):
        time.sleep(600)
    found = predict_one(ensemble, image, *arguments, **settings)
    if os.environ.get("HOLD"):
        open(os.environ["HOLD"], "w").close()
    return found
batch._predict_one = slow
sys.exit(main())
"""
"""The command, which with HOLD stops before its second image."""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two studies of six patients in MURA's layout, and files without a patient, one of them broken."""
    rng = np.random.default_rng(0)
    for number in range(12):
        study = f"patient{number // 2:05}/study{number % 2 + 1}_negative"
        write_png(tmp_path / "in" / study / "image1.png", rng.integers(1, 255, (20, 16), dtype=np.uint8))
        write_png(tmp_path / "in" / f"{number}.png", rng.integers(1, 255, (20, 16), dtype=np.uint8))
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    write_bundle(tmp_path / "bundle")
    return tmp_path / "in"


def arguments(images: Path, out: Path, *more: str) -> list[str]:
    return ["predict", str(images), "--bundle", str(images.parent / "bundle"), "--out", str(out), *more]


def started(images: Path, out: Path, shard: str, hold: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOW, *arguments(images, out, "--shard", shard)]
    environment = {**os.environ, "HOLD": hold}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def tree(folder: Path) -> dict[str, bytes]:
    """All files but those of hidden folders."""
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return {file.as_posix(): (folder / file).read_bytes() for file in files if not file.parts[0].startswith(".")}


def test_three_shards_of_which_one_is_killed_are_the_run_in_one_piece(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts, hold = tmp_path / "whole", tmp_path / "parts", tmp_path / "hold"
    assert main(arguments(images, whole)) == 1
    shards = [started(images, parts, f"{number}/3", str(hold) if number == 1 else "") for number in range(3)]
    while not hold.exists():
        assert shards[1].poll() is None
    shards[1].send_signal(signal.SIGKILL)
    printed = [shard.communicate(timeout=120)[0] for shard in shards]
    assert "writes scores.csv" in printed[0]
    assert "writes scores.csv" in printed[2]
    patients = [f"patient{number:05}" for number in range(6)]
    done = {path.relative_to(parts).parts[0] for path in parts.rglob("image1_overlay.png")}
    complete = {patient for patient in patients if not Shard(1, 3).holds(patient)}
    assert complete <= done
    assert all(len(list((parts / patient).rglob("*.png"))) == 2 for patient in complete)
    assert not (parts / "scores.csv").exists()
    capsys.readouterr()
    assert main(arguments(images, parts)) == 1
    assert tree(parts) == tree(whole)

    before = {path: path.stat().st_mtime_ns for path in parts.rglob("*.png")}
    capsys.readouterr()
    assert main(arguments(images, parts)) == 1
    assert "24 of 25 images predicted, 24 of them before" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert tree(parts) == tree(whole)


def test_what_has_changed_is_predicted_anew(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, asked = tmp_path / "out", []
    predict = Ensemble.predict

    def noted(ensemble: Ensemble, *arguments: object, **settings: object) -> object:
        asked.append(1)
        return predict(ensemble, *arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(Ensemble, "predict", noted)
    (images / "broken.png").unlink()

    def predicted(*more: str) -> int:
        asked.clear()
        assert main(arguments(images, out, *more)) == 0
        return len(asked)

    assert sum(predicted("--shard", f"{number}/2") for number in range(2)) == 24
    assert predicted() == 0
    write_png(images / "3.png", np.full((30, 16), 7, np.uint8))
    assert predicted() == 1
    (out / "4_overlay.png").unlink()
    assert predicted() == 1
    (out / ".predictions" / "5_overlay.json").write_text("{")
    assert predicted() == 1
    assert predicted("--threshold", "0.9") == 24


def test_wrong_arguments_are_one_sentence(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(images, tmp_path / "out", "--shard", "1/1")) == 2
    assert main(arguments(images, tmp_path / "out", "--shard", "0/2", "--stream")) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "count from 0" in first
    assert "--stream or --shard" in second
