"""A measurement of speed from start to end."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from anomalib_xray.bundling.backends import backends_of, export_graph
from anomalib_xray.bundling.measurement import Measured, measure
from anomalib_xray.edge.bundle import NOTICE, Bundle
from anomalib_xray.edge.predictor import Predictor
from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import images_of
from anomalib_xray.io.progress import status
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.text import write_json
from anomalib_xray.io.write import write_png
from anomalib_xray.jobs import Task, run_task, write_task

logger = logging.getLogger(__name__)

PICTURES = 10
"""Radiographs that a measurement uses, at most."""

_COLUMNS = ("backend", "fastest\nms", "median\nms", "95 %\nms", "images\n/ s", "times\ntorch", "memory\nMB", "start\ns")
_ABSENT = "-"


def run_bench(
    bundle: Path,
    checkpoint: Path | None,
    images: Sequence[Path] | None,
    runs: int,
    threads: int | None,
    out: Path | None,
    model: str | None,
) -> int:
    """Measures, prints the table and writes the figures; arguments as of :func:`anomalib_xray.commands.bench.bench`.

    Returns:
        Exit status: 0.

    Raises:
        XrayError: The bundle or an image cannot be used, or ``out`` cannot be written.
    """
    console = Console()
    threads = threads or _usable_threads()
    opened = Bundle.open(bundle)
    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with status("Preparing the pictures"):
            originals, note = _originals(images, is_raw=opened.preparation is not None)
            raw = _written(originals, folder / "raw")
            predictor = Predictor(opened)
            views = [view.image for image in originals for view in predictor.prepare(image)]
            prepared = _written(views, folder / "prepared")
        onnx = folder / "graph" / "model.onnx"
        backends = backends_of(opened, checkpoint, onnx, model)
        if checkpoint is not None and not backends[0].missing:
            with status("Exporting to ONNX"):
                # A process of its own takes torch with it when it ends; the row of ONNX tells of a failure.
                export = {"checkpoint": checkpoint, "model": model, "onnx": onnx}
                run_task(write_task(folder / "export", _export, export))
        rows = rows_of(measure(backends, prepared, raw, runs, threads))
    content = {
        "model": opened.model,
        "settings": opened.settings,
        "runs": runs,
        "threads": threads,
        "pictures": note,
        "machine": f"{platform.system()} {platform.machine()}, {processor()}",
        "versions": _versions(),
        "rows": rows,
    }
    title = f"{opened.model}, {threads} threads, {runs} runs, {content['machine']}"
    console.print(NOTICE)
    console.print(as_table(rows, title))
    for row in rows:
        if "problem" in row:
            reason = f"{row['backend']} was not measured: {row['problem'].rstrip('.')}."
            console.print(reason, markup=False, highlight=False)
    if out is not None:
        write_json(out, content)
    return 0


def _usable_threads() -> int:
    """CPU threads that this process may use; not all systems can say which."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _originals(images: Sequence[Path] | None, *, is_raw: bool) -> tuple[list[Radiograph], str]:
    """The radiographs and what they are."""
    if images:
        found: list[Radiograph] = []
        for path in chain.from_iterable(map(images_of, images)):
            try:
                found.append(read_radiograph(path))
            except XrayError as error:
                logger.warning("left out: %s", error)
            if len(found) == PICTURES:
                break
        if not found:
            raise XrayError("None of the given radiographs can be read; give others.")
        return found, f"{len(found)} given radiographs"
    from anomalib_xray.phantom import RAW, render_phantom

    generators = [np.random.default_rng(number) for number in range(PICTURES)]
    if is_raw:
        return [render_phantom(generator, RAW).image for generator in generators], f"{PICTURES} raw phantoms"
    return [render_phantom(generator).image for generator in generators], f"{PICTURES} phantoms"


def _written(pictures: Sequence[Radiograph], folder: Path) -> list[Path]:
    """Writes pictures where the workers find them."""
    paths = [folder / f"{number}.png" for number in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        write_png(path, picture)
    return paths


def _export(task: Task) -> None:
    """Exports a checkpoint to ONNX."""
    export_graph(Path(task.arguments["checkpoint"]), task.arguments["model"], Path(task.arguments["onnx"]))


def rows_of(results: Sequence[Measured]) -> list[dict[str, Any]]:
    """Figures of every backend, compared with the first one.

    Returns:
        For each: ``backend``, and either ``problem`` or ``fastest_ms``, ``median_ms``, ``p95_ms``,
        ``images_per_second`` (one after the other), ``speed_up`` over the first (of the medians), ``memory_mb``
        (largest resident) and ``start_s`` (from the start of the process to the first answer).
    """
    first = float(np.median(results[0].seconds)) if results[0].seconds else None
    return [_row(result, first) for result in results]


def _row(result: Measured, reference: float | None) -> dict[str, Any]:
    if result.problem:
        return {"backend": result.backend.name, "problem": result.problem}
    median, high = (float(value) for value in np.quantile(result.seconds, (0.5, 0.95)))
    is_model = not result.backend.takes_raw
    return {
        "backend": result.backend.name,
        "fastest_ms": min(result.seconds) * 1000,
        "median_ms": median * 1000,
        "p95_ms": high * 1000,
        "images_per_second": len(result.seconds) / sum(result.seconds),
        "speed_up": reference / median if reference is not None and is_model else None,
        "memory_mb": None if result.memory is None else result.memory / 1e6,
        "start_s": result.start,
    }


def as_table(rows: Sequence[dict[str, Any]], title: str) -> Table:
    """The figures as a table; a backend that was not measured is a row of dashes."""
    table = Table(title=title, pad_edge=False)
    for number, column in enumerate(_COLUMNS):
        table.add_column(column, justify="right" if number else "left", no_wrap=number > 0)
    for row in rows:
        cells = [_ABSENT] * (len(_COLUMNS) - 1) if "problem" in row else _cells(row)
        table.add_row(Text(row["backend"]), *cells)
    return table


def _cells(row: dict[str, Any]) -> list[str]:
    speed_up, memory = row["speed_up"], row["memory_mb"]
    return [
        *(f"{row[name]:.1f}" for name in ("fastest_ms", "median_ms", "p95_ms", "images_per_second")),
        "" if speed_up is None else f"{speed_up:.1f}",
        "unknown" if memory is None else f"{memory:.0f}",
        f"{row['start_s']:.1f}",
    ]


def processor() -> str:
    """What the system calls its processor."""
    try:
        with open("/proc/cpuinfo", encoding="ascii") as file:  # noqa: PTH123  # read line by line
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration, UnicodeDecodeError):
        return platform.processor() or "unknown processor"


def _versions() -> dict[str, str]:
    found = {}
    for name in ("anomalib-xray", "openvino", "torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
