"""Speed of a bundle: its backends in fresh interpreters that take turns, and the table of their figures."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from anomalib_xray import NOTICE
from anomalib_xray.bundling.backends import Backend, backends_of, export_graph, serve
from anomalib_xray.bundling.images import write_pictures
from anomalib_xray.edge.bundle import Bundle
from anomalib_xray.edge.description import installed_versions
from anomalib_xray.edge.predictor import Predictor
from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import images_of
from anomalib_xray.io.progress import status, track
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.text import read_text, write_json
from anomalib_xray.jobs import Process, read_result, run_task, write_task

logger = logging.getLogger(__name__)

PICTURES = 10
"""Radiographs that a measurement uses, at most."""

WARM_UP = 3
"""Rounds that are not counted."""

_COLUMNS = ("backend", "fastest\nms", "median\nms", "95 %\nms", "images\n/ s", "times\ntorch", "memory\nMB", "start\ns")


@dataclass
class Timing:
    """Measurement of a backend.

    Attributes:
        backend: The backend.
        start: Seconds from the start of the process to its first answer; ``None`` without one.
        seconds: Of each answer.
        memory: Largest resident memory of the process in bytes; ``None`` if unknown.
        problem: Why it was not measured; empty if it was.
    """

    backend: Backend
    start: float | None = None
    seconds: list[float] = field(default_factory=list)
    memory: int | None = None
    problem: str = ""


def run_bench(
    bundle: Path,
    checkpoint: Path | None,
    images: Sequence[Path] | None,
    runs: int,
    threads: int | None,
    out: Path | None,
    model: str | None,
) -> int:
    """Measures, prints the table and writes the figures; see :func:`anomalib_xray.commands.bench.bench`."""
    console = Console()
    threads = threads or _usable_threads()
    opened = Bundle.open(bundle)
    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with status("Preparing the pictures"):
            originals, note = _originals(images, is_raw=opened.preparation is not None)
            raw = write_pictures(originals, folder / "raw")
            predictor = Predictor(opened)
            views = [view.image for image in originals for view in predictor.prepare(image)]
            prepared = write_pictures(views, folder / "prepared")
        onnx = folder / "graph" / "model.onnx"
        backends = backends_of(opened, checkpoint, onnx, model)
        if checkpoint is not None and not backends[0].missing:
            with status("Exporting to ONNX"):
                # A process of its own takes torch with it when it ends; the row of ONNX tells of a failure.
                export = {"checkpoint": checkpoint, "model": model, "onnx": onnx}
                run_task(write_task(folder / "export", export_graph, export))
        rows = rows_of(measure(backends, prepared, raw, runs, threads))
    machine = f"{platform.system()} {platform.machine()}, {_processor()}"
    console.print(NOTICE)
    console.print(_table(rows, f"{opened.model}, {threads} threads, {runs} runs, {machine}"))
    for row in rows:
        if "problem" in row:
            reason = f"{row['backend']} was not measured: {row['problem'].rstrip('.')}."
            console.print(reason, markup=False, highlight=False)
    if out is not None:
        content = {
            "model": opened.model,
            "settings": opened.settings,
            "runs": runs,
            "threads": threads,
            "pictures": note,
            "machine": machine,
            "versions": installed_versions("anomalib-xray", "openvino", "torch", "numpy"),
            "rows": rows,
        }
        write_json(out, content)
    return 0


def measure(
    backends: Sequence[Backend], prepared: Sequence[Path], raw: Sequence[Path], runs: int, threads: int
) -> list[Timing]:
    """Starts one backend after the other and then lets them take turns, so that all meet the same load.

    Models get the prepared pictures, whole paths the raw radiographs; ``runs`` answers of each backend are counted.
    """
    results = [Timing(backend, problem=backend.missing) for backend in backends]
    with TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        processes: list[tuple[Timing, Process, int]] = []
        for result in track(results, "Starting"):
            if not result.problem:
                pictures = raw if result.backend.takes_raw else prepared
                arguments = {"backend": asdict(result.backend), "threads": threads, "pictures": pictures}
                task = write_task(Path(name, str(len(processes))), serve, arguments)
                begin = perf_counter()
                process = stack.enter_context(Process(task))
                if _noted(result, process, process.answer()):
                    result.start = perf_counter() - begin
                processes.append((result, process, len(pictures)))
        for number in track(range(WARM_UP + runs), "Taking turns"):
            for result, process, count in processes:
                if not result.problem:
                    answer = _noted(result, process, process.ask(number % count))
                    if answer and number >= WARM_UP:
                        result.seconds.append(answer["seconds"])
    return results


def _noted(result: Timing, process: Process, answer: dict[str, Any] | None) -> dict[str, Any]:
    """Notes the memory of a backend, or why it gave no answer; returns the answer or an empty one."""
    if answer is not None:
        result.memory = answer["memory"]
        return answer
    process.wait()
    result.problem = (read_result(process.folder) or {"reason": "its process died"})["reason"]
    return {}


def _usable_threads() -> int:
    """CPU threads that this process may use; not all systems can say which."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _originals(images: Sequence[Path] | None, *, is_raw: bool) -> tuple[list[Radiograph], str]:
    """The radiographs and what they are."""
    found: list[Radiograph] = []
    if images:
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

    options = (RAW,) if is_raw else ()
    found = [render_phantom(np.random.default_rng(number), *options).image for number in range(PICTURES)]
    return found, f"{PICTURES} {'raw ' if is_raw else ''}phantoms"


def rows_of(results: Sequence[Timing]) -> list[dict[str, Any]]:
    """Figures of every backend, compared with the first one.

    Returns:
        For each: ``backend``, and either ``problem`` or ``fastest_ms``, ``median_ms``, ``p95_ms``,
        ``images_per_second`` (one after the other), ``speed_up`` over the first (of the medians), ``memory_mb``
        (largest resident) and ``start_s`` (from the start of the process to the first answer).
    """
    first = float(np.median(results[0].seconds)) if results[0].seconds else None
    rows: list[dict[str, Any]] = []
    for result in results:
        if result.problem:
            rows.append({"backend": result.backend.name, "problem": result.problem})
            continue
        median, high = (float(value) for value in np.quantile(result.seconds, (0.5, 0.95)))
        rows.append({
            "backend": result.backend.name,
            "fastest_ms": min(result.seconds) * 1000,
            "median_ms": median * 1000,
            "p95_ms": high * 1000,
            "images_per_second": len(result.seconds) / sum(result.seconds),
            "speed_up": first / median if first is not None and not result.backend.takes_raw else None,
            "memory_mb": None if result.memory is None else result.memory / 1e6,
            "start_s": result.start,
        })  # fmt: skip
    return rows


def _table(rows: Sequence[dict[str, Any]], title: str) -> Table:
    """The figures as a table; a backend that was not measured is a row of dashes."""
    table = Table(title=title, pad_edge=False)
    for number, column in enumerate(_COLUMNS):
        table.add_column(column, justify="right" if number else "left", no_wrap=number > 0)
    for row in rows:
        cells = ["-"] * (len(_COLUMNS) - 1)
        if "problem" not in row:
            speed_up, memory = row["speed_up"], row["memory_mb"]
            cells = [
                *(f"{row[name]:.1f}" for name in ("fastest_ms", "median_ms", "p95_ms", "images_per_second")),
                "" if speed_up is None else f"{speed_up:.1f}",
                "unknown" if memory is None else f"{memory:.0f}",
                f"{row['start_s']:.1f}",
            ]
        table.add_row(Text(row["backend"]), *cells)
    return table


def _processor() -> str:
    """Name of the processor, as the system gives it."""
    with suppress(XrayError, StopIteration):
        lines = read_text(Path("/proc/cpuinfo")).splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or "unknown processor"
