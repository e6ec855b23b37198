"""Runs the cells of a benchmark that are not done, each in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.cell import CELL, RESULT
from anomalib_xray.evaluation.plan import Cell, Grid
from anomalib_xray.io.progress import track
from anomalib_xray.io.write import write_atomically
from anomalib_xray.preparation.parallel import Backend, results

CELLS = "cells"


def run_cells(
    grid: Grid, out: Path, *, workers: int, backend: Backend = "loky", scheduler: str | None = None, retry: bool = False
) -> None:
    """Runs what is not done; a run that is stopped goes on where it was.

    Args:
        grid: The benchmark.
        out: Folder to write to.
        workers: Cells that run at once.
        backend: See :func:`anomalib_xray.preparation.parallel.results`.
        scheduler: As there.
        retry: Whether cells that failed run again.

    Raises:
        XrayError: Pictures cannot be prepared, or a cluster not be used.
    """
    todo = [cell for cell in grid.all_cells if is_open(out, cell, retry=retry)]
    tasks = [_write_cell(cell, grid, out, workers) for cell in todo]
    total = len(grid.all_cells)
    ended = results(run_process, tasks, workers=workers, backend=backend, scheduler=scheduler, shared=out)
    for name, status in track(ended, "cells", total, done=total - len(todo)):
        print(f"{name}: {status}", flush=True)


def is_open(out: Path, cell: Cell, *, retry: bool) -> bool:
    """Whether a cell still has to run."""
    result = read_result(out, cell)
    return result is None or (retry and result["status"] != "done")


def read_result(out: Path, cell: Cell) -> dict[str, Any] | None:
    """What a cell left behind, or nothing."""
    path = folder_of(out, cell) / RESULT
    if not path.is_file():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def folder_of(out: Path, cell: Cell) -> Path:
    """The folder of a cell."""
    return out / CELLS / cell.key


def run_process(task: tuple[str, int]) -> tuple[str, str]:
    """Runs one cell in a new interpreter, whose memory and whose failures are its own.

    Args:
        task: Folder of the cell, and the number of threads that it may use.

    Returns:
        The folder's name and what became of the cell.
    """
    folder, threads = Path(task[0]), task[1]
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        process = subprocess.run(
            [sys.executable, "-m", "anomalib_xray.evaluation.cell", str(folder)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment_of(threads),
            check=False,
        )
    result = read_outcome(folder, process.returncode)
    # Checkpoints and pictures of a grid would fill a disk.
    shutil.rmtree(folder / "run", ignore_errors=True)
    return folder.name, result["status"] + (f", {result['reason']}" if "reason" in result else "")


def environment_of(threads: int) -> dict[str, str]:
    """Environment of a process that trains.

    Args:
        threads: Threads that it may use.
    """
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}


def read_outcome(folder: Path, status: int) -> dict[str, Any]:
    """What a process left behind; where it left nothing, a failure that says so, which is also written.

    Args:
        folder: Its folder, with its ``log.txt``.
        status: Its exit status.
    """
    path = folder / RESULT
    if not path.is_file():
        reason = f"the process ended with status {status}; see {folder / 'log.txt'}"
        write_atomically(path, json.dumps({"status": "failed", "reason": reason}) + "\n")
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def _write_cell(cell: Cell, grid: Grid, out: Path, workers: int) -> tuple[str, int]:
    """Writes what the process reads; pictures are prepared first where they are not yet."""
    folder = folder_of(out, cell)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RESULT).unlink(missing_ok=True)
    shutil.rmtree(folder / "run", ignore_errors=True)
    prepared = with_prepared(cell, grid, out)
    write_atomically(folder / CELL, json.dumps(asdict(prepared), indent=1, default=str) + "\n")
    return str(folder), max(1, (os.cpu_count() or 1) // workers)


def with_prepared(cell: Cell, grid: Grid, out: Path) -> Cell:
    """Prepares the pictures of a cell where they are not yet.

    Args:
        cell: The cell.
        grid: Its benchmark.
        out: Folder of the benchmark.

    Returns:
        The cell with the folder of its prepared pictures.

    Raises:
        XrayError: The pictures cannot be made or prepared.
    """
    pipeline = grid.preparations[cell.preparation]
    if pipeline is None:
        return cell
    from anomalib_xray.cli import main as anomalib_xray

    prepared = out / "prepared" / f"{cell.data}-{cell.preparation}"
    if (prepared / "manifest.csv").exists():
        return _pointing_at(prepared, cell)
    init_args = cell.data_config["init_args"]
    table = init_args.get("table")
    root = Path(init_args.get("root") or Path(table or "").parent)
    arguments = ["--config", str(pipeline), "--root", str(root), "--out", str(prepared)]
    if not root.exists():
        _make_data(cell, folder_of(out, cell))
    masks = Path("ground_truth") / "anomaly"
    if table is not None:
        arguments += ["--table", str(table)]
    elif (root / masks).is_dir():
        arguments += ["--masks", str(masks)]
    if (part := _body_part(cell)) is not None:
        arguments += ["--only", f"*/{part}/*"]
    if anomalib_xray(["prepare", *arguments]) > 1:
        raise XrayError(f"The pictures of {cell.data} could not be prepared with {pipeline}; see above.")
    return _pointing_at(prepared, cell)


def _body_part(cell: Cell) -> str | None:
    """The only folder of MURA that a cell reads: each part has a pipeline of its own, and all are 40,000 images."""
    if not str(cell.data_config["class_path"]).endswith(".Mura"):
        return None
    parts = cell.data_config["init_args"].get("body_parts", "XR_HAND")
    names = [parts] if isinstance(parts, str) else list(parts)
    return f"XR_{names[0].upper().removeprefix('XR_')}" if len(names) == 1 else None


def _pointing_at(prepared: Path, cell: Cell) -> Cell:
    init_args = {**cell.data_config["init_args"], "prepared_root": str(prepared)}
    return replace(cell, data_config={**cell.data_config, "init_args": init_args})


def _make_data(cell: Cell, folder: Path) -> None:
    """Has a data set made that is generated, in a process of its own, since datamodules import torch."""
    write_atomically(folder / CELL, json.dumps(asdict(cell), indent=1, default=str) + "\n")
    made = subprocess.run(
        [sys.executable, "-m", "anomalib_xray.evaluation.cell", "--data", str(folder)],
        env=environment_of(1),
        check=False,
        capture_output=True,
        text=True,
    )
    if made.returncode:
        reason = made.stderr.strip().splitlines()[-1] if made.stderr.strip() else "no reason given"
        raise XrayError(f"The pictures of {cell.data} cannot be found or made: {reason}")


def estimate_seconds(grid: Grid, out: Path, todo: Sequence[Cell]) -> float | None:
    """How long the open cells will take on one worker, from those that are done; nothing if none is."""
    known: dict[str, list[float]] = {}
    for cell in grid.all_cells:
        result = read_result(out, cell)
        if result is not None and "training_s" in result:
            known.setdefault(cell.model, []).append(result["training_s"] + result["testing_s"])
    if not known:
        return None
    overall = [seconds for some in known.values() for seconds in some]
    return sum(sum(some) / len(some) for some in (known.get(cell.model, overall) for cell in todo))
