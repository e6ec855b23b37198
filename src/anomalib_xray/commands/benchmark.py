"""The command that compares models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anomalib_xray.devices import find_devices, tasks_at_once
from anomalib_xray.errors import XrayError
from anomalib_xray.shards import Shard

if TYPE_CHECKING:
    from anomalib_xray.experiments.grid import Grid


def benchmark(
    config: Path,
    out: Path = Path("benchmark"),
    workers: int = 0,
    devices: str = "auto",
    devices_per_cell: int = 1,
    shard: str | None = None,
    backend: Literal["loky", "ray"] = "loky",
    scheduler: str | None = None,
    dry_run: bool = False,
    retry: bool = False,
    tracker: Literal["mlflow", "tensorboard"] | None = None,
) -> int:
    """Trains and tests a grid of models, and compares them with intervals.

    A grid is models, ours and any of anomalib's, times data sets, preparations and seeds. Each cell runs in a process
    of its own. The run may be stopped at any time; the same command goes on, and does nothing but write the tables once
    all is done. OUT/results.md, .csv and .tex are the tables; OUT/report.html shows them with curves and pictures, in
    one file for any browser.

    Args:
        config: The grid, a YAML file such as configs/benchmark/smoke.yaml.
        out: Folder to write to.
        workers: Cells that run at once; the cores are divided among them. 0 for one per GPU, and one without a GPU.
        devices: GPUs to share among the cells, one at a time each: auto for all that this process sees, a number of
            them, a list such as 0,2 (1, for the second alone), or cpu. One that is listed twice runs two cells at once.
        devices_per_cell: GPUs that each cell gets.
        shard: Part I/N of the cells, such as 0/8 for the first of eight; I counts from 0. The same command without
            --shard runs what is left and writes the tables.
        backend: loky for processes on this machine, ray for Ray.
        scheduler: Address of the scheduler of a Dask cluster that is to do the work, such as tcp://host:8786.
        dry_run: Print the cells and how long they may take, and run nothing.
        retry: Run cells that failed again.
        tracker: mlflow or tensorboard: each cell that runs is also a run there, with its settings, metrics, curves and
            pictures, in OUT/mlflow.db or OUT/tensorboard. MLFLOW_TRACKING_URI names another place for MLflow.

    Returns:
        Exit status: 0, 1 if a cell failed, 130 if it was stopped.

    Raises:
        XrayError: The grid, a folder or the cluster cannot be used.
    """
    if workers < 0:
        raise XrayError("--workers is a number of cells that run at once: give 0 or more.")
    part = None if shard is None else Shard.parse(shard)
    on_cluster = scheduler is not None or backend == "ray"  # whose machines have devices of their own
    at_once = workers or 1 if on_cluster else tasks_at_once(find_devices(devices, devices_per_cell), workers)

    from anomalib_xray.experiments.grid import read_grid
    from anomalib_xray.experiments.run_grid import estimate_seconds, is_open, run_cells
    from anomalib_xray.experiments.tracking import Tracker

    grid = read_grid(config)
    cells = [cell for cell in grid.all_cells if part is None or part.holds(cell.key)]
    if dry_run:
        todo = [cell for cell in cells if is_open(out, cell, retry=retry)]
        for cell in todo:
            print(cell.key)
        seconds = estimate_seconds(grid, out, todo)
        known = "no cell is done yet" if seconds is None else f"about {seconds / at_once / 60:.0f} minutes"
        print(f"{len(todo)} of {len(cells)} cells to run; {known}.")
        return 0
    place = None if tracker is None else Tracker.prepare(tracker, out, grid.title)
    stopped = False
    try:
        run_cells(
            grid,
            out,
            cells,
            workers=at_once,
            devices=devices,
            devices_per_cell=devices_per_cell,
            backend=backend,
            scheduler=scheduler,
            retry=retry,
            tracker=place,
        )
    except KeyboardInterrupt:
        stopped = True
    if part is None:
        _write_tables(grid, out)
    if stopped:
        print(f"Stopped. What is done is in {out}; the same command goes on.")
        return 130
    if part is not None:
        print(f"Shard {part} has ended; the same command without --shard writes the tables.")
    return int(any(is_open(out, cell, retry=True) for cell in cells))


def _write_tables(grid: Grid, out: Path) -> None:
    from anomalib_xray.report.page import write_report
    from anomalib_xray.report.results import CellOutputs, read_rows
    from anomalib_xray.report.tables import write_tables

    outputs = CellOutputs(grid, out)
    rows = read_rows(outputs)
    for path in [*write_tables(rows, grid, out), write_report(rows, outputs, out)]:
        print(path)
