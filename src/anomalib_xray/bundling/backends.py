"""Backends of a measurement of speed: torch, ONNX, each precision of a bundle, and the whole path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from anomalib_xray.edge.bundle import Bundle
from anomalib_xray.errors import XrayError
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.io.read import read_radiograph, to_unit_interval
from anomalib_xray.io.text import read_text
from anomalib_xray.jobs import Task
from anomalib_xray.openvino_runtime import openvino_core

if TYPE_CHECKING:
    from anomalib_xray.bundling.graph import ScoreGraph

Kind = Literal["torch", "openvino", "predictor"]

F32 = "f32"
"""Arithmetic that agrees with torch; without a name OpenVINO chooses by itself."""


@dataclass(frozen=True)
class Backend:
    """Something that scores pictures, a row of the table.

    Attributes:
        name: Its name in the table.
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
    """All backends of a bundle, those that cannot be measured with their reasons.

    Without a checkpoint, torch and ONNX cannot; ``onnx`` is the file that will hold its graph.
    """
    reason = "" if find_spec("torch") and find_spec("anomalib") else "torch or anomalib is not installed"
    if checkpoint is None:
        reason = "no --checkpoint was given"
    rows = [
        Backend("torch, eager", "torch", str(checkpoint), model or "", reason),
        Backend("ONNX read by OpenVINO, f32", "openvino", str(onnx), F32, reason),
    ]
    for precision in ("fp32", "fp16", "int8"):
        path, absent = str(bundle.models.get(precision)), _why_absent(bundle, precision)
        rows.append(Backend(f"OpenVINO {precision}", "openvino", path, F32, absent))
        if precision != "fp16":
            rows.append(Backend(f"OpenVINO {precision}, own arithmetic", "openvino", path, "", absent))
    path_name = "preparation and model" if bundle.preparation else "whole path"
    for precision in ("fp32", "int8"):
        absent = _why_absent(bundle, precision)
        rows.append(Backend(f"{path_name}, {precision}", "predictor", str(bundle.folder), precision, absent))
    return rows


def serve(task: Task) -> None:
    """Holds one backend: answers once it has scored the first picture, then each time it is told to score one.

    Arguments of the task are ``backend``, ``threads`` and ``pictures``, paths; orders are numbers of pictures. Answers
    are the ``memory`` of the process and, to an order, the ``seconds`` that it took.
    """
    run = _opened(Backend(**task.arguments["backend"]), task.arguments["threads"])
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
        lines = read_text(Path("/proc/self/status")).splitlines()
    except XrayError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)


def _opened(backend: Backend, threads: int) -> Callable[[Radiograph], object]:
    """Loads a backend; the function scores a picture ``(H, W)``, uint8 or uint16."""
    if backend.kind == "predictor":
        from anomalib_xray.edge.predictor import open_predictor

        return open_predictor(backend.path, precision=backend.option, threads=threads).predict
    if backend.kind == "openvino":
        return _openvino(backend, threads)
    import torch

    torch.set_num_threads(threads)
    model = _score_graph(backend.path, backend.option or None)
    return lambda picture: model.score(to_unit_interval(picture))


def _openvino(backend: Backend, threads: int) -> Callable[[Radiograph], object]:
    """The graph alone, without the request and the copies of :class:`~anomalib_xray.edge.graph.Graph`."""
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads}
    if backend.option:
        settings["INFERENCE_PRECISION_HINT"] = backend.option
    core = openvino_core()
    try:
        compiled = core.compile_model(core.read_model(Path(backend.path)), "CPU", settings)
    except RuntimeError as error:
        raise XrayError(f"{backend.path} cannot be loaded: it is damaged or of an unknown format.") from error
    return lambda picture: compiled(np.repeat(to_unit_interval(picture)[np.newaxis, np.newaxis], 3, axis=1))


def export_graph(task: Task) -> None:
    """Writes the graph of a checkpoint as ONNX; arguments of the task are ``checkpoint``, ``model`` and ``onnx``."""
    from anomalib_xray.bundling.graph import export_onnx

    arguments = task.arguments
    export_onnx(_score_graph(arguments["checkpoint"], arguments["model"]), Path(arguments["onnx"]))


def _score_graph(checkpoint: str, model: str | None) -> ScoreGraph:
    from anomalib_xray.bundling.graph import ScoreGraph
    from anomalib_xray.training.checkpoint import load_model

    return ScoreGraph(load_model(Path(checkpoint), model)).eval()


def _why_absent(bundle: Bundle, precision: str) -> str:
    """Why a bundle cannot be measured in a precision; empty where it holds it."""
    if precision in bundle.models:
        return ""
    entry = bundle.precisions.get(precision)
    return ((entry and entry.reason) or "not in the bundle").split(":")[0]
