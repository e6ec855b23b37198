"""A model in all the forms that a bundle may hold, and how good each of them is."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino  # type: ignore[import-untyped]  # openvino ships no types
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from anomalib_xray.bundling.answers import Answer, Foreground, Run, open_graph, score_all
from anomalib_xray.bundling.graph import ScoreGraph, export_onnx, to_openvino
from anomalib_xray.bundling.images import UNKNOWN, has_both_labels
from anomalib_xray.bundling.layers import in_half_precision
from anomalib_xray.bundling.parity import measure_parity
from anomalib_xray.bundling.pictures import Pictures
from anomalib_xray.bundling.quantisation import gate
from anomalib_xray.errors import XrayError

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule


@dataclass
class Forms:
    """The model in all its forms.

    Attributes:
        names: Names of the scores, in order.
        graph: The 32-bit graph.
        reference: Torch.
        foreground: Where a picture shows something, after torch's pre-processing.
        runs: The other forms by the name that the parity is reported under, and the precision that they belong to.
    """

    names: list[str]
    graph: openvino.Model
    reference: Run
    foreground: Foreground
    runs: dict[tuple[str, str], Run]

    @classmethod
    def of(cls, model: AnomalibModule, scratch: Path, folder: Path) -> Forms:
        """Exports a model in 32 and 16 bits."""
        torch_graph = ScoreGraph(model).eval()
        onnx = scratch / "model.onnx"
        names = export_onnx(torch_graph, onnx)
        if model.hparams["score"] not in names:
            raise XrayError(
                f"The score {model.hparams['score']} cannot be computed outside of torch; train with another."
            )
        graph = to_openvino(onnx)

        def reference(picture: NDArray[np.float32]) -> Answer:
            scores, anomaly_map = torch_graph.score(picture)
            return np.array([scores[name] for name in names]), anomaly_map

        forms = cls(names, graph, reference, torch_graph.foreground, {("fp32", "onnx"): open_graph(onnx)})
        forms.add("fp32", graph, folder)
        forms.runs["fp32", "openvino_default"] = open_graph(graph, {})
        forms.add("fp16", in_half_precision(graph), folder)
        return forms

    def add(self, precision: str, graph: openvino.Model, folder: Path) -> None:
        """Writes a graph into the bundle and opens what was written."""
        path = folder / precision / "model.xml"
        path.parent.mkdir(parents=True)
        try:
            openvino.save_model(graph, path, compress_to_fp16=False)
        except RuntimeError as error:
            raise XrayError(f"{path} cannot be written: {' '.join(str(error).split())[:200]}.") from error
        self.runs[precision, "openvino_f32" if precision == "fp32" else precision] = open_graph(path)

    def run(self, precision: str) -> Run:
        """What the bundle's model of a precision answers, its arithmetic otherwise in 32 bits."""
        return self.runs[precision, "openvino_f32" if precision == "fp32" else precision]


def measure_precisions(
    forms: Forms,
    score: str,
    scores: NDArray[np.float64],
    pictures: Sequence[Pictures],
    folder: Path,
    max_auroc_loss: float,
) -> dict[str, dict[str, Any]]:
    """Measures every precision: agreement with torch, and AUROC where there are labels.

    Args:
        forms: The forms.
        score: Name of the score that decides.
        scores: Scores ``(N, K)`` of the 32-bit form.
        pictures: The N radiographs.
        folder: The bundle, from which an 8-bit model is removed that is not good enough.
        max_auroc_loss: AUROC that it may lose.

    Returns:
        The entries of ``precisions`` in ``bundle.json``.
    """
    parity = measure_parity(
        forms.reference, {form: run for (_, form), run in forms.runs.items()}, pictures, forms.names
    )
    column = forms.names.index(score)
    labels = np.array([radiograph.label for radiograph in pictures])
    labelled = [radiograph for radiograph in pictures if radiograph.label != UNKNOWN]
    entries: dict[str, dict[str, Any]] = {}
    for precision in dict.fromkeys(precision for precision, _ in forms.runs):
        auroc = None
        if has_both_labels(labelled):
            of_labelled = scores[labels != UNKNOWN]
            if precision != "fp32":
                of_labelled, _ = score_all(forms.run(precision), labelled, precision)
            auroc = float(roc_auc_score(labels[labels != UNKNOWN], of_labelled[:, column]))
        entries[precision] = {
            "model": f"{precision}/model.xml",
            "auroc": auroc,
            "parity": {form: parity[form] for of_precision, form in forms.runs if of_precision == precision},
        }
    if "int8" in entries:
        _decide(entries, folder, max_auroc_loss)
    return entries


def _decide(entries: dict[str, dict[str, Any]], folder: Path, max_auroc_loss: float) -> None:
    """Accepts the 8-bit model or removes it."""
    reason = gate(entries["fp32"]["auroc"], entries["int8"]["auroc"], max_auroc_loss)
    entries["int8"]["accepted"] = reason is None
    if reason is not None:
        entries["int8"]["reason"] = reason
        del entries["int8"]["model"]
        shutil.rmtree(folder / "int8")
