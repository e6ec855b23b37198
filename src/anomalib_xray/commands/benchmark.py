"""The command that compares models."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from anomalib_xray.errors import XrayError


def benchmark(
    config: Path,
    out: Path = Path("benchmark"),
    workers: int = 1,
    backend: Literal["loky", "ray"] = "loky",
    scheduler: str | None = None,
    dry_run: bool = False,
    retry: bool = False,
) -> int:
    """Trains and tests a grid of models, and compares them with intervals.

    A grid is models, ours and any of anomalib's, times data sets, preparations and seeds. Each cell runs in a process
    of its own. The run may be stopped at any time; the same command goes on, and does nothing but write the tables once
    all is done. OUT/results.md, .csv and .tex are the tables; OUT/report.html shows them with curves and pictures, in
    one file for any browser.

    Args:
        config: The grid, a YAML file such as configs/benchmark/smoke.yaml.
        out: Folder to write to.
        workers: Cells that run at once; the cores are divided among them.
        backend: loky for processes on this machine, ray for Ray.
        scheduler: Address of the scheduler of a Dask cluster that is to do the work, such as tcp://host:8786.
        dry_run: Print the cells and how long they may take, and run nothing.
        retry: Run cells that failed again.

    Returns:
        Exit status: 0, 1 if a cell failed, 130 if it was stopped.

    Raises:
        XrayError: The grid, a folder or the cluster cannot be used.
    """
    if workers < 1:
        raise XrayError("--workers is a number of cells that run at once: give 1 or more.")

    from anomalib_xray.experiments.grid import read_grid
    from anomalib_xray.experiments.run_grid import estimate_seconds, is_open, run_cells

    grid = read_grid(config)
    if dry_run:
        todo = [cell for cell in grid.all_cells if is_open(out, cell, retry=retry)]
        for cell in todo:
            print(cell.key)
        seconds = estimate_seconds(grid, out, todo)
        known = "no cell is done yet" if seconds is None else f"about {seconds / workers / 60:.0f} minutes"
        print(f"{len(todo)} of {len(grid.all_cells)} cells to run; {known}.")
        return 0
    stopped = False
    try:
        run_cells(grid, out, workers=workers, backend=backend, scheduler=scheduler, retry=retry)
    except KeyboardInterrupt:
        stopped = True

    from anomalib_xray.report.page import write_report
    from anomalib_xray.report.results import read_rows
    from anomalib_xray.report.tables import write_tables

    rows = read_rows(grid, out)
    for path in [*write_tables(rows, grid, out), write_report(rows, grid, out)]:
        print(path)
    if stopped:
        print(f"Stopped. What is done is in {out}; the same command goes on.")
        return 130
    return int(any(is_open(out, cell, retry=True) for cell in grid.all_cells))
