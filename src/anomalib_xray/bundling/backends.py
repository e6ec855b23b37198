"""What can answer for a picture: torch, ONNX, each precision of a bundle, and the whole path with its preparation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np

from anomalib_xray.edge.bundle import Bundle
from anomalib_xray.errors import XrayError
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.io.read import read_radiograph, to_unit_interval
from anomalib_xray.jobs import Task

Kind = Literal["torch", "openvino", "predictor"]

F32 = "f32"
"""Arithmetic that agrees with torch; without a name OpenVINO chooses by itself."""


@dataclass(frozen=True)
class Backend:
    """One row of the table.

    Attributes:
        name: What it is called.
        kind: ``torch`` runs a checkpoint eagerly, ``openvino`` a graph, ``predictor`` a bundle on raw radiographs.
        path: Checkpoint, graph or bundle.
        option: Arithmetic of a graph, precision of a bundle, or the model's name of a checkpoint.
        missing: Why it cannot be measured; empty if it can.
    """

    name: str
    kind: Kind
    path: str
    option: str = ""
    missing: str = ""

    @property
    def takes_raw(self) -> bool:
        """Whether it takes radiographs as they are instead of prepared pictures."""
        return self.kind == "predictor"


def backends_of(bundle: Bundle, checkpoint: Path | None, onnx: Path, model: str | None) -> list[Backend]:
    """All rows of a bundle, those that cannot be measured with their reasons.

    Args:
        bundle: The bundle.
        checkpoint: What it was made of; ``None`` leaves torch and ONNX out.
        onnx: Where the graph lies, or will lie, as ONNX.
        model: Name of the checkpoint's model, if the checkpoint does not hold it.
    """
    reason = _why_no_torch(checkpoint)
    rows = [
        Backend("torch, eager", "torch", str(checkpoint), model or "", reason),
        Backend("ONNX read by OpenVINO, f32", "openvino", str(onnx), F32, reason),
    ]
    for precision in ("fp32", "fp16", "int8"):
        path = bundle.models.get(precision)
        absent = "" if path else _why_absent(bundle, precision)
        rows.append(Backend(f"OpenVINO {precision}", "openvino", str(path), F32, absent))
        if precision != "fp16":
            rows.append(Backend(f"OpenVINO {precision}, own arithmetic", "openvino", str(path), "", absent))
    path_name = "preparation and model" if bundle.preparation else "whole path"
    for precision in ("fp32", "int8"):
        absent = "" if precision in bundle.models else _why_absent(bundle, precision)
        rows.append(Backend(f"{path_name}, {precision}", "predictor", str(bundle.folder), precision, absent))
    return rows


def serve(task: Task) -> None:
    """Holds one backend: answers when it has scored the first picture, and then each time it is told to score one.

    Arguments of the task are ``backend``, ``threads`` and ``pictures``, paths; orders are numbers of pictures. Answers
    are the ``memory`` of the process and, to an order, the ``seconds`` that it took.
    """
    run = open_backend(Backend(**task.arguments["backend"]), task.arguments["threads"])
    paths = task.arguments["pictures"]
    run(read_radiograph(paths[0]))
    task.answer({"memory": resident_bytes()})
    pictures = [read_radiograph(path) for path in paths]
    for number in task.orders():
        start = perf_counter()
        run(pictures[number])
        seconds = perf_counter() - start
        task.answer({"seconds": seconds, "memory": resident_bytes()})


def resident_bytes() -> int | None:
    """Largest resident memory of this process so far in bytes; ``None`` where the system does not say."""
    try:
        # Not resource.getrusage: what it gives includes the parent's memory at the moment of the fork.
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def open_backend(backend: Backend, threads: int) -> Callable[[Radiograph], object]:
    """Loads a backend; what it returns answers for a picture ``(H, W)``, uint8 or uint16.

    Raises:
        XrayError: It cannot be loaded.
    """
    if backend.kind == "torch":
        return _torch(backend, threads)
    if backend.kind == "openvino":
        return _openvino(backend, threads)
    from anomalib_xray.edge.predictor import open_predictor

    return open_predictor(backend.path, precision=backend.option, threads=threads).predict


def export_graph(checkpoint: Path, model: str | None, onnx: Path) -> None:
    """Writes the graph of a checkpoint as ONNX."""
    from anomalib_xray.bundling.graph import ScoreGraph, export_onnx
    from anomalib_xray.training.checkpoint import load_model

    export_onnx(ScoreGraph(load_model(checkpoint, model)).eval(), onnx)


def _torch(backend: Backend, threads: int) -> Callable[[Radiograph], object]:
    import torch

    from anomalib_xray.bundling.graph import ScoreGraph
    from anomalib_xray.training.checkpoint import load_model

    torch.set_num_threads(threads)
    graph = ScoreGraph(load_model(Path(backend.path), backend.option or None)).eval()
    return lambda picture: graph.score(to_unit_interval(picture))


def _openvino(backend: Backend, threads: int) -> Callable[[Radiograph], object]:
    import openvino  # type: ignore[import-untyped]  # openvino ships no types

    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads}
    if backend.option:
        settings["INFERENCE_PRECISION_HINT"] = backend.option
    core = openvino.Core()
    try:
        compiled = core.compile_model(core.read_model(Path(backend.path)), "CPU", settings)
    except RuntimeError as error:
        raise XrayError(f"{backend.path} cannot be loaded: it is damaged or of an unknown format.") from error
    return lambda picture: compiled(np.repeat(to_unit_interval(picture)[np.newaxis, np.newaxis], 3, axis=1))


def _why_no_torch(checkpoint: Path | None) -> str:
    if checkpoint is None:
        return "no --checkpoint was given"
    return "" if find_spec("torch") and find_spec("anomalib") else "torch or anomalib is not installed"


def _why_absent(bundle: Bundle, precision: str) -> str:
    reasons = {name: entry.reason for name, entry in bundle.precisions.items()}
    return (reasons.get(precision) or "not in the bundle").split(":")[0]
