"""Cells that train nothing: each notes what its process sees and when, and leaves a score table.

Run as a program it is the ``benchmark`` command with such cells.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from typing import Any

from anomalib_xray.devices import VISIBLE
from anomalib_xray.experiments.grid import SCORES, Cell
from anomalib_xray.jobs import Task

SECONDS = "FAKE_SECONDS"
"""Environment variable with the seconds that a cell takes."""


def fake_cell(task: Task) -> dict[str, Any]:
    """Stands for :func:`anomalib_xray.experiments.cell_task.run_cell`; models called ``Dies`` end their process."""
    cell, start = Cell(**task.arguments), time.monotonic()
    time.sleep(float(os.environ.get(SECONDS, "0.05")))
    if cell.model == "Dies":
        os._exit(3)
    score = int(hashlib.sha256(cell.key.encode()).hexdigest()[:6], 16)
    (task.folder / SCORES).write_text(f"image_path,label,score\n{cell.data},0,{score}\n")
    return {
        "sees": os.environ.get(VISIBLE),
        "threads": os.environ["OMP_NUM_THREADS"],
        "from": start,
        "to": time.monotonic(),
    }


def main() -> int:
    """Runs the command with fake cells; its tables, which need real ones, are left out."""
    from anomalib_xray import cli
    from anomalib_xray.commands import benchmark
    from anomalib_xray.experiments import run_grid

    # A shell starts what runs in its background with SIGINT ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    fake_cell.__module__ = "fake_cells"
    run_grid.run_cell = fake_cell  # type: ignore[attr-defined]
    benchmark._write_tables = lambda *_: None
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
