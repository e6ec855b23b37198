"""Cells of a grid as tasks in fresh interpreters."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.cell_task import make_data, run_cell
from anomalib_xray.experiments.grid import Cell, Grid
from anomalib_xray.io.progress import track
from anomalib_xray.jobs import Backend, read_result, results, run_task, write_task


def run_cells(grid: Grid, out: Path, *, workers: int, backend: Backend, scheduler: str | None, retry: bool) -> None:
    """Runs the cells that are not done, ``workers`` at once; see :func:`anomalib_xray.jobs.results`."""
    todo = [cell for cell in grid.all_cells if is_open(out, cell, retry=retry)]
    tasks = [write_cell(cell, grid, out) for cell in todo]
    run = partial(_run, threads=max(1, (os.cpu_count() or 1) // workers))
    total = len(grid.all_cells)
    ended = results(run, tasks, workers=workers, backend=backend, scheduler=scheduler, shared=out)
    for line in track(ended, "cells", total, done=total - len(todo)):
        print(line, flush=True)


def _run(folder: Path, threads: int) -> str:
    """Runs a cell; a line with its status."""
    result = run_task(folder, threads)
    return f"{folder.name}: {result['status']}" + (f", {result['reason']}" if "reason" in result else "")


def is_open(out: Path, cell: Cell, *, retry: bool) -> bool:
    """Whether a cell has to run: one without a result, or with ``retry`` one that failed."""
    result = read_result(folder_of(out, cell))
    return result is None or (retry and result["status"] != "done")


def folder_of(out: Path, cell: Cell) -> Path:
    """The folder of a cell."""
    return out / "cells" / cell.key


def write_cell(cell: Cell, grid: Grid, out: Path) -> Path:
    """Writes the task of a cell, generates and prepares its pictures where needed, and returns its folder."""
    pipeline = grid.preparations[cell.preparation]
    if pipeline is None:
        return write_task(folder_of(out, cell), run_cell, asdict(cell))
    prepared = out / "prepared" / f"{cell.data}-{cell.preparation}"
    if not (prepared / "manifest.csv").exists():
        _prepare(cell, pipeline, prepared)
    init_args = {**cell.data_config["init_args"], "prepared_root": str(prepared)}
    pointed = replace(cell, data_config={**cell.data_config, "init_args": init_args})
    return write_task(folder_of(out, cell), run_cell, asdict(pointed))


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
        summary = run(Pipeline.load(config), root, prepared, sources, workers=os.cpu_count() or 1)
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
