"""A grid on devices and in shards, by the real command with cells that train nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from joblib import cpu_count

from anomalib_xray.devices import VISIBLE
from anomalib_xray.experiments import run_grid
from anomalib_xray.experiments.grid import read_grid
from anomalib_xray.experiments.run_grid import folder_of
from anomalib_xray.io.text import read_json
from anomalib_xray.jobs import LOG, RESULT, read_result
from anomalib_xray.shards import Shard

from .fake_cells import SECONDS, fake_cell

PROGRAM = Path(__file__).with_name("fake_cells.py")


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """A grid of eight cells, one of which dies."""
    models = {name: {"class_path": "none.None"} for name in ("Dies", *"ABCDEF")}
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump({"data": {"set": {"class_path": "none.None"}}, "models": models}))
    assert len(read_grid(path).all_cells) == 8
    return path


def started(grid: Path, out: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The command, in a process group of its own as a job of a scheduler's."""
    paths = [str(PROGRAM.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    (grid.parent / "tmp").mkdir(exist_ok=True)  # locks of the test's own
    settings = {"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(grid.parent / "tmp"), **environment}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), "benchmark", "--config", str(grid), "--out", str(out), *arguments],
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str], status: int) -> str:
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == status, printed
    return printed


def until_a_cell_runs(process: subprocess.Popen[str], out: Path) -> None:
    while not list(out.rglob(LOG)):
        assert process.poll() is None


def cells_of(grid: Path, out: Path) -> dict[str, dict[str, Any] | None]:
    cells = {cell.model: read_result(folder_of(out, cell)) for cell in read_grid(grid).all_cells}
    assert len(cells) == 8
    return cells


def test_two_cells_never_share_a_device(grid: Path, tmp_path: Path) -> None:
    ended(started(grid, tmp_path / "out", **{VISIBLE: "4,MIG-7"}), 1)
    assert_nothing_is_shared(cells_of(grid, tmp_path / "out"))


def assert_nothing_is_shared(cells: dict[str, dict[str, Any] | None]) -> None:
    died = cells.pop("Dies")
    assert died is not None
    assert "status 3" in died["reason"]
    done = [cell for cell in cells.values() if cell is not None]
    assert len(done) == 7
    assert {cell["sees"] for cell in done} == {"4", "MIG-7"}  # both are used again, whichever the dead one had
    assert {cell["threads"] for cell in done} == {str(max(1, cpu_count() // 2))}
    together = [
        (one["sees"], other["sees"])
        for one, other in combinations(done, 2)
        if one["from"] < other["to"] and other["from"] < one["to"]
    ]
    assert all(one != other for one, other in together)


@pytest.mark.slow
def test_two_threads_of_a_dask_worker_never_share_a_device(
    grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PROGRAM.parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv(VISIBLE, "4,MIG-7")
    monkeypatch.setattr(fake_cell, "__module__", "fake_cells")
    monkeypatch.setattr(run_grid, "run_cell", fake_cell)
    out = tmp_path / "out"
    out.mkdir()
    read = read_grid(grid)
    with distributed.LocalCluster(n_workers=1, threads_per_worker=3, dashboard_address=None) as cluster:
        run_grid.run_cells(read, out, read.all_cells, scheduler=cluster.scheduler_address)
    assert_nothing_is_shared(cells_of(grid, out))


def test_three_shards_of_which_one_is_killed_are_the_run_in_one_piece(grid: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    ended(started(grid, whole), 1)
    keys = [cell.key for cell in read_grid(grid).all_cells]
    shards = [[key for key in keys if Shard(number, 3).holds(key)] for number in range(3)]
    assert all(shards)
    assert sorted(key for shard in shards for key in shard) == sorted(keys)
    slow = started(grid, parts, "--shard", "2/3", **{SECONDS: "600"})
    until_a_cell_runs(slow, parts)
    others = [started(grid, parts, "--shard", f"{number}/3") for number in (0, 1)]
    for process in others:
        assert "the same command without --shard" in process.communicate(timeout=120)[0]
    finished = {path.parent.name: path.stat().st_mtime_ns for path in parts.rglob(RESULT)}
    assert set(finished) == {*shards[0], *shards[1]}
    assert "runs in another process" in ended(started(grid, parts), 1)
    left = [key for key in shards[2] if not (parts / "cells" / key / RESULT).exists()]
    assert len(left) == 1  # what the slow one holds; the rest of its shard was done for it
    slow.send_signal(signal.SIGKILL)
    slow.communicate()
    ended(started(grid, parts), 1)
    assert {name: (parts / "cells" / name / RESULT).stat().st_mtime_ns for name in finished} == finished
    files = sorted(path.relative_to(whole) for path in whole.rglob("scores.csv"))
    assert files == sorted(path.relative_to(parts) for path in parts.rglob("scores.csv"))
    assert all((whole / file).read_bytes() == (parts / file).read_bytes() for file in files)


@pytest.mark.parametrize(("workers", "end"), [("1", signal.SIGINT), ("2", signal.SIGTERM)])
def test_a_grid_that_is_stopped_goes_on(grid: Path, tmp_path: Path, workers: str, end: signal.Signals) -> None:
    out = tmp_path / "out"
    process = started(grid, out, "--workers", workers, **{SECONDS: "600"})
    until_a_cell_runs(process, out)
    os.killpg(process.pid, end)
    assert "the same command goes on" in ended(process, 130)
    assert not list(out.rglob(RESULT))
    ended(started(grid, out, "--workers", workers), 1)
    assert len(list(out.rglob(RESULT))) == 8
    assert read_json(next(iter(out.rglob(RESULT))))["status"] in ("done", "failed")
