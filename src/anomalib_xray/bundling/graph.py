"""The graph of a bundle: one image in, all named scores and the map out, neither normalised nor decided."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import openvino  # type: ignore[import-untyped]  # openvino ships no types
import torch
from openvino.passes import ConstantFolding, Manager  # type: ignore[import-untyped]  # openvino ships no types
from torch import Tensor, nn

from anomalib_xray.edge.graph import INPUT, MAP, SCORES
from anomalib_xray.errors import XrayError
from anomalib_xray.openvino_runtime import openvino_core
from anomalib_xray.scores import ScoredBatch
from anomalib_xray.training.export import OPSET
from anomalib_xray.training.post_processor import foreground_of

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule

_EXAMPLE_SIZE = (200, 152)  # any; both sides are free in the graph


class ScoreGraph(nn.Module):
    """A model of this project without its post-processing: pre-processing, network and scores."""

    def __init__(self, model: AnomalibModule) -> None:
        super().__init__()
        self.pre_processor = model.pre_processor
        self.network = model.model
        self._called = SimpleNamespace(names=())  # tracing takes changes of the module's own attributes back

    @property
    def names(self) -> list[str]:
        """Names of the scores of the last call, in order; a traced graph may lack some."""
        return list(self._called.names)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Raw scores ``(1, K)`` in the order of ``names``, and the raw map ``(1, 1, S, S)`` where the model has one."""
        scored: ScoredBatch = self.network(self.pre_processor(image) if self.pre_processor else image)
        self._called.names = tuple(scored.scores)
        scores = torch.stack([score.reshape(-1) for score in scored.scores.values()], dim=1)
        return (scores,) if scored.anomaly_map is None else (scores, scored.anomaly_map[:, None])

    def foreground(self, image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Mask of the foreground of an image ``(H, W)`` in [0, 1] after pre-processing, at the size of the map."""
        batch = torch.from_numpy(image).expand(1, 3, *image.shape)
        with torch.no_grad():
            return foreground_of(self.pre_processor(batch) if self.pre_processor else batch, size)[0].numpy()

    def score(self, image: np.ndarray) -> tuple[dict[str, float], np.ndarray | None]:
        """Raw scores by name of an image ``(H, W)`` in [0, 1], and the raw map ``(S, S)`` where the model has one."""
        with torch.no_grad():
            scores, *maps = self(torch.from_numpy(image).expand(1, 3, *image.shape).contiguous())
        named = dict(zip(self.names, scores[0].tolist(), strict=True))
        return named, maps[0][0, 0].numpy() if maps else None


def export_onnx(graph: ScoreGraph, path: Path) -> list[str]:
    """Writes the graph, in evaluation, as ONNX; returns the names of the scores in their order."""
    free = {0: "one", 1: "three", 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    shape = {axis: size if axis > 1 else torch.export.Dim.STATIC for axis, size in free.items()}
    # A gradual picture: of a constant one the traced minimum and maximum would be the same.
    example = torch.linspace(0, 1, int(np.prod(_EXAMPLE_SIZE))).reshape(_EXAMPLE_SIZE).repeat(1, 3, 1, 1)
    with torch.no_grad():
        outputs = graph(example)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _quietly():
            torch.onnx.export(
                graph,
                (example,),
                str(path),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[SCORES, MAP][: len(outputs)],
                dynamic_shapes=(shape,),
                opset_version=OPSET,
            )
    except XrayError:
        raise
    except Exception as error:  # the exporter raises about anything for what it cannot trace
        if isinstance(cause := _first_cause(error), XrayError):
            raise cause from error
        reason = " ".join(str(error).split())[:200]
        raise XrayError(f"The model cannot be exported, so it has no place in a bundle: {reason}.") from error
    return graph.names


def to_openvino(path: Path) -> openvino.Model:
    """Reads an ONNX graph as an OpenVINO model whose constants are folded, so that every weight is seen as one."""
    model = openvino_core().read_model(path)
    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)
    return model


def _first_cause(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's messages about its own workings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)
