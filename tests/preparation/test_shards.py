"""Shards of a preparation that work on one folder at the same time."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from anomalib_xray.cli import main
from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation.pipeline import Pipeline
from anomalib_xray.preparation.record import MANIFEST
from anomalib_xray.preparation.runner import run
from anomalib_xray.preparation.sources import find_sources
from anomalib_xray.shards import Shard

PATIENTS = 12


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two studies of each patient, one picture broken."""
    picture = np.random.default_rng(0).integers(0, 65535, (200, 200), dtype=np.uint16)
    for number in range(2 * PATIENTS):
        study = f"patient{number // 2:05}/study{number % 2 + 1}_positive"
        write_png(tmp_path / "raw" / "train" / study / "image1.png", np.roll(picture, number))
    (tmp_path / "raw" / "train" / "patient00000" / "study1_positive" / "image1.png").write_bytes(b"broken")
    # With 16 bits the filter takes its time: most pictures are still to do when the first one is there.
    (tmp_path / "pipeline.yaml").write_text("steps:\n  - median_filter: {kernel: 19}\n")
    return tmp_path / "raw"


def arguments(raw: Path, out: Path, *more: str) -> list[str]:
    config = raw.parent / "pipeline.yaml"
    return ["prepare", "--config", str(config), "--root", str(raw), "--out", str(out), "--workers", "1", *more]


def started(raw: Path, out: Path, shard: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-c",
        "import sys; from anomalib_xray.cli import main; sys.exit(main())",
        *arguments(raw, out, "--shard", shard),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def tree(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and "lock" not in path.name]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_three_shards_of_which_one_is_killed_are_the_run_in_one_piece(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(arguments(raw, whole)) == 1
    shards = [started(raw, parts, f"{number}/3") for number in range(3)]
    killed = [name for name in _names(raw) if Shard(1, 3).holds(name.split("/")[1])]
    while not any((parts / name).exists() for name in killed):
        assert shards[1].poll() is None
    shards[1].send_signal(signal.SIGKILL)
    printed = [shard.communicate(timeout=120)[0] for shard in shards]
    assert "writes manifest.csv" in printed[0]
    assert "writes manifest.csv" in printed[2]
    assert not (parts / MANIFEST).exists()
    capsys.readouterr()
    assert main(arguments(raw, parts)) == 1
    assert tree(parts) == tree(whole)
    before = {path: path.stat().st_mtime_ns for path in parts.rglob("*.png")}
    assert main(arguments(raw, parts)) == 1
    assert "0 prepared, 23 done before, 1 failed" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert main(arguments(raw, parts, "--shard", "0/3")) in (0, 1)
    assert tree(parts) == tree(whole)  # a shard with nothing to do leaves the manifest


def _names(raw: Path) -> list[str]:
    return [path.relative_to(raw).as_posix() for path in raw.rglob("*.png")]


def test_a_patient_is_in_one_shard_wherever_the_folder_lies(raw: Path) -> None:
    moved = raw.rename(raw.with_name("elsewhere"))
    shards = []
    for number in range(3):
        out = moved.parent / f"out{number}"
        run(Pipeline.load(moved.parent / "pipeline.yaml"), moved, out, find_sources(moved, out), shard=Shard(number, 3))
        shards.append({name.split("/")[1] for name in _names(out)})
    patients = {f"patient{number:05}" for number in range(PATIENTS)}
    assert set.union(*shards) == patients
    assert [{one for one in patients if Shard(number, 3).holds(one)} for number in range(3)] == shards


def test_a_table_tells_who_belongs_together(raw: Path) -> None:
    table, out, counts = raw.parent / "table.csv", raw.parent / "out", []
    lines = [f"{name},{number % 2}" for number, name in enumerate(_names(raw))]
    table.write_text("\n".join(["image_path,patient", *lines]))
    for number in range(9):
        sources = find_sources(raw, out, table=table)
        pipeline = Pipeline([{"resize": {"longest_side": 8}}])
        counts.append(run(pipeline, raw, out, sources, shard=Shard(number, 9)).done.total())
    assert sorted(counts) == [0] * 7 + [PATIENTS] * 2


def test_a_whole_run_waits_for_no_shard_and_a_shard_runs_once(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from anomalib_xray.preparation import runner

    pipeline, out = Pipeline.load(raw.parent / "pipeline.yaml"), raw.parent / "out"
    said = []

    def meanwhile(*_: object) -> None:
        for shard in (None, Shard(0, 3)):
            with pytest.raises(XrayError) as refused:
                run(pipeline, raw, out, [], shard=shard)
            said.append(str(refused.value))
        monkeypatch.undo()
        run(pipeline, raw, out, [], shard=Shard(1, 3))

    monkeypatch.setattr(runner, "_remember", meanwhile)
    run(pipeline, raw, out, [], shard=Shard(0, 3))
    assert "or a shard of one" in said[0]
    assert "Another run prepares shard 0/3" in said[1]
