"""Cells of a grid as tasks in fresh interpreters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from joblib import cpu_count

from anomalib_xray.devices import AUTO, find_devices
from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.cell_task import make_data, run_cell
from anomalib_xray.experiments.grid import Cell, Grid
from anomalib_xray.experiments.tracking import Tracker
from anomalib_xray.io.progress import track
from anomalib_xray.io.write import held
from anomalib_xray.jobs import Backend, Task, read_result, results, run_task, write_task
from anomalib_xray.preparation.record import MANIFEST

_LOCK = ".lock"
"""File in the folder of a cell that the process which runs it has locked."""


def run_cells(
    grid: Grid,
    out: Path,
    cells: Sequence[Cell],
    *,
    workers: int = 1,
    devices: str = AUTO,
    devices_per_cell: int = 1,
    backend: Backend = "loky",
    scheduler: str | None = None,
    retry: bool = False,
    tracker: Tracker | None = None,
) -> None:
    """Runs those of some cells that are not done; those that another process runs are left to it.

    Args:
        grid: The grid.
        out: Folder of the benchmark.
        cells: Cells to run.
        workers: Cells that run at once on this machine, among which its cores are divided.
        devices: GPUs to share among the cells, as of :func:`anomalib_xray.devices.find_devices`; a worker of a cluster
            finds those of its own machine.
        devices_per_cell: Number of GPUs of a cell.
        backend: ``loky`` for processes, ``ray`` for Ray.
        scheduler: Address of the scheduler of a Dask cluster, which is then used instead.
        retry: Whether cells that failed run again.
        tracker: Experiment tracker in which each cell that runs is a run.
    """
    further = {} if tracker is None else {"tracker": asdict(tracker)}
    todo = [cell for cell in cells if is_open(out, cell, retry=retry)]
    tasks = [(folder_of(out, cell), settings_of(cell, grid, out) | further) for cell in todo]
    run = partial(
        _run,
        run_cell,
        # A worker of Dask's divides the cores of its machine among its GPUs, or takes the threads it was started with.
        threads=None if scheduler is not None else max(1, cpu_count() // workers),
        devices=(devices, devices_per_cell),
        retry=retry,
    )
    ended = results(run, tasks, workers=workers, backend=backend, scheduler=scheduler, shared=out)
    for line in track(ended, "cells", len(cells), done=len(cells) - len(todo)):
        print(line, flush=True)


def _run(
    function: Callable[[Task], dict[str, Any]],
    task: tuple[Path, dict[str, Any]],
    threads: int | None,
    devices: tuple[str, int],
    retry: bool,
) -> str:
    """Runs a cell unless another process does or did; a line with its status."""
    folder, settings = task
    folder.mkdir(parents=True, exist_ok=True)
    with held(folder / _LOCK) as is_ours:
        if not is_ours:
            return f"{folder.name}: runs in another process"
        if not _is_open(folder, retry=retry):
            return f"{folder.name}: ended in another process"
        pool = find_devices(*devices)
        if threads is None and any(device.locks for device in pool):
            threads = max(1, cpu_count() // len(pool))
        result = run_task(write_task(folder, function, settings), threads, pool)
    return f"{folder.name}: {result['status']}" + (f", {result['reason']}" if "reason" in result else "")


def is_open(out: Path, cell: Cell, *, retry: bool) -> bool:
    """Whether a cell has to run: one without a result, or with ``retry`` one that failed."""
    return _is_open(folder_of(out, cell), retry=retry)


def _is_open(folder: Path, *, retry: bool) -> bool:
    result = read_result(folder)
    return result is None or (retry and result["status"] != "done")


def folder_of(out: Path, cell: Cell) -> Path:
    """The folder of a cell."""
    return out / "cells" / cell.key


def settings_of(cell: Cell, grid: Grid, out: Path) -> dict[str, Any]:
    """Settings of the task of a cell; its pictures are generated and prepared where needed."""
    pipeline = grid.preparations[cell.preparation]
    if pipeline is None:
        return asdict(cell)
    prepared = out / "prepared" / f"{cell.data}-{cell.preparation}"
    prepared.parent.mkdir(parents=True, exist_ok=True)
    with held(prepared.with_name(f".{prepared.name}.lock"), wait=True):  # shards of a grid begin at the same time
        if not (prepared / MANIFEST).exists():
            _prepare(cell, pipeline, prepared)
    init_args = {**cell.data_config["init_args"], "prepared_root": str(prepared)}
    return asdict(replace(cell, data_config={**cell.data_config, "init_args": init_args}))


def _prepare(cell: Cell, config: Path, prepared: Path) -> None:
    """Prepares the pictures of a cell."""
    from anomalib_xray.preparation.pipeline import Pipeline
    from anomalib_xray.preparation.report import print_summary
    from anomalib_xray.preparation.runner import run
    from anomalib_xray.preparation.sources import find_sources

    init_args = cell.data_config["init_args"]
    table = None if init_args.get("table") is None else Path(init_args["table"])
    root = Path(init_args.get("root") or Path(table or "").parent)
    if table is None and str(cell.data_config["class_path"]).endswith(".FracAtlas"):
        table = root / "table.csv"  # its module makes it
    if not (root if table is None else table).exists():  # in a fresh interpreter, since datamodules import torch
        with TemporaryDirectory() as folder:
            result = run_task(write_task(Path(folder), make_data, asdict(cell)), threads=1)
        if result["status"] != "done":
            raise XrayError(f"The pictures of {cell.data} cannot be found or made: {result['reason']}")
    masks = Path("ground_truth") / "anomaly"
    has_masks = table is None and (root / masks).is_dir()
    try:
        sources = find_sources(root, prepared, table=table, masks=masks if has_masks else None, only=_body_part(cell))
        summary = run(Pipeline.load(config), root, prepared, sources, workers=cpu_count())
    except XrayError as error:
        raise XrayError(f"The pictures of {cell.data} could not be prepared with {config}: {error}") from error
    print_summary(summary, prepared)


def _body_part(cell: Cell) -> str | None:
    """Pattern of the only folder of MURA that a cell reads, since all its parts are 40,000 images."""
    if not str(cell.data_config["class_path"]).endswith(".Mura"):
        return None
    parts = cell.data_config["init_args"].get("body_parts", "XR_HAND")
    names = [parts] if isinstance(parts, str) else list(parts)
    return f"*/XR_{names[0].upper().removeprefix('XR_')}/*" if len(names) == 1 else None


def estimate_seconds(grid: Grid, out: Path, todo: Sequence[Cell]) -> float | None:
    """Seconds that the open cells will take on one worker, by those that are done; ``None`` without any."""
    known: dict[str, list[float]] = {}
    for cell in grid.all_cells:
        result = read_result(folder_of(out, cell))
        if result is not None and "training_s" in result:
            known.setdefault(cell.model, []).append(result["training_s"] + result["testing_s"])
    if not known:
        return None
    overall = [seconds for some in known.values() for seconds in some]
    return sum(sum(some) / len(some) for some in (known.get(cell.model, overall) for cell in todo))
