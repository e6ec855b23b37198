"""A measurement of speed from start to end."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console

from anomalib_xray.bench.backends import Backend, backends_of
from anomalib_xray.bench.report import as_json, as_table, rows_of
from anomalib_xray.bench.turns import Worker, measure
from anomalib_xray.edge.bundle import NOTICE
from anomalib_xray.edge.device_bundle import DeviceBundle
from anomalib_xray.edge.inputs import images_of
from anomalib_xray.edge.predictor import Predictor
from anomalib_xray.errors import XrayError
from anomalib_xray.io.progress import status
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.write import write_atomically, write_png

logger = logging.getLogger(__name__)

PICTURES = 10
"""Radiographs that a measurement uses, at most."""


def run_bench(
    bundle: Path,
    checkpoint: Path | None,
    images: Sequence[Path] | None,
    runs: int,
    threads: int | None,
    out: Path | None,
    model: str | None,
) -> int:
    """Measures, prints the table and writes the figures; arguments as of :func:`anomalib_xray.bench.command.bench`.

    Returns:
        Exit status: 0.

    Raises:
        XrayError: The bundle or an image cannot be used, or ``out`` cannot be written.
    """
    console = Console()
    threads = threads or _usable_threads()
    opened = DeviceBundle.open(bundle)
    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with status("Preparing the pictures"):
            originals, note = _originals(images, is_raw=opened.preparation is not None)
            raw = _written(originals, folder / "raw")
            predictor = Predictor(opened)
            views = [view.image for image in originals for view in predictor.prepare(image)]
            prepared = _written(views, folder / "prepared")
        backends = backends_of(opened, checkpoint, folder / "graph" / "model.onnx", model)
        if checkpoint is not None and not backends[0].missing:
            with status("Exporting to ONNX"):
                _export(checkpoint, folder / "graph" / "model.onnx", model, threads)
        rows = rows_of(measure(backends, prepared, raw, runs, threads))
    content = as_json(rows, opened, runs, threads, note)
    title = f"{opened.model}, {threads} threads, {runs} runs, {content['machine']}"
    console.print(NOTICE)
    console.print(as_table(rows, title))
    for row in rows:
        if "problem" in row:
            reason = f"{row['backend']} was not measured: {row['problem'].rstrip('.')}."
            console.print(reason, markup=False, highlight=False)
    if out is not None:
        write_atomically(out, json.dumps(content, indent=1) + "\n")
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


def _export(checkpoint: Path, onnx: Path, model: str | None, threads: int) -> None:
    """Exports in a process of its own, which takes torch with it when it ends; a failure is told by the row of ONNX."""
    job = {
        "backend": vars(Backend("export", "export", str(onnx), model or "")),
        "checkpoint": str(checkpoint),
        "threads": threads,
        "pictures": [],
    }
    with Worker(job) as worker:
        worker.first_answer()
