"""The precisions of a bundle's model: 32, 16 and 8 bits, and their agreement with torch."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import openvino  # type: ignore[import-untyped]  # openvino ships no types
from numpy.typing import NDArray
from openvino import opset13 as operations
from sklearn.metrics import roc_auc_score

from anomalib_xray.bundling.graph import ScoreGraph, export_onnx, to_openvino
from anomalib_xray.bundling.images import UNKNOWN, PreparedSample, has_both_labels, read_view
from anomalib_xray.bundling.normal_scores import Foreground, score_all
from anomalib_xray.edge.description import Precision
from anomalib_xray.edge.graph import Graph
from anomalib_xray.errors import XrayError
from anomalib_xray.io.progress import track
from anomalib_xray.openvino_runtime import silence_telemetry
from anomalib_xray.training.export import Run, measure_parity

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule

PARITY_PICTURES = 200
"""PreparedSample that agreement with torch is measured on, at most."""

CALIBRATION_PICTURES = 300
"""PreparedSample of normal images that the ranges of 8-bit values are taken from, at most."""

MAX_AUROC_LOSS = 0.005
"""AUROC that the 8-bit model may lose against the 32-bit one on the validation images."""

_HARMLESS = {"Constant", "Parameter", "Result"}
_LAYERS = {"Convolution", "ConvolutionBackpropData", "GroupConvolution", "MatMul"}
_WEIGHTS = 1  # number of their input that holds the weights


@dataclass
class Variants:
    """A model in torch and in all forms that it is exported to.

    Attributes:
        names: Names of the scores, in order.
        graph: The 32-bit graph.
        reference: The model in torch.
        foreground: Mask of the foreground of a picture, after torch's pre-processing.
        runs: The exported forms by their precision and the name that their parity is reported under.
    """

    names: list[str]
    graph: openvino.Model
    reference: Run
    foreground: Foreground
    runs: dict[tuple[str, str], Run]

    @classmethod
    def of(cls, model: AnomalibModule, scratch: Path, folder: Path) -> Variants:
        """Exports a model in 32 and 16 bits."""
        torch_graph = ScoreGraph(model).eval()
        onnx = scratch / "model.onnx"
        names = export_onnx(torch_graph, onnx)
        if model.hparams["score"] not in names:
            raise XrayError(
                f"The score {model.hparams['score']} cannot be computed outside of torch; train with another."
            )
        graph = to_openvino(onnx)

        def reference(picture: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float32] | None]:
            scores, anomaly_map = torch_graph.score(picture)
            return np.array([scores[name] for name in names]), anomaly_map

        variants = cls(names, graph, reference, torch_graph.foreground, {("fp32", "onnx"): Graph(onnx)})
        variants.add("fp32", graph, folder)
        variants.runs["fp32", "openvino_default"] = Graph(graph, arithmetic=None)
        variants.add("fp16", in_half_precision(graph), folder)
        return variants

    def add(self, precision: str, graph: openvino.Model, folder: Path) -> None:
        """Writes a graph into the bundle and opens what was written."""
        path = folder / precision / "model.xml"
        path.parent.mkdir(parents=True)
        try:
            openvino.save_model(graph, path, compress_to_fp16=False)
        except RuntimeError as error:
            raise XrayError(f"{path} cannot be written: {' '.join(str(error).split())[:200]}.") from error
        self.runs[precision, "openvino_f32" if precision == "fp32" else precision] = Graph(path)

    def run(self, precision: str) -> Run:
        """The bundle's model of a precision, its arithmetic otherwise in 32 bits."""
        return self.runs[precision, "openvino_f32" if precision == "fp32" else precision]


def measure_precisions(
    variants: Variants,
    score: str,
    scores: NDArray[np.float64],
    samples: Sequence[PreparedSample],
    folder: Path,
    max_auroc_loss: float,
) -> dict[str, Precision]:
    """Measures every precision: agreement with torch, and AUROC where there are labels.

    ``scores`` are those of the 32-bit model, ``(N, K)``, for the N samples, and ``score`` names the one that decides.
    An 8-bit model that loses more than ``max_auroc_loss`` is removed from the folder of the bundle.
    """
    compared = islice(chain.from_iterable(sample.read() for sample in samples), PARITY_PICTURES)
    count = min(sum(len(sample.views) for sample in samples), PARITY_PICTURES)
    runs = {form: run for (_, form), run in variants.runs.items()}
    parity = measure_parity(variants.reference, runs, track(compared, "Comparing with torch", count), variants.names)
    column = variants.names.index(score)
    labelled = [sample for sample in samples if sample.label != UNKNOWN]
    of_fp32 = scores[[sample.label != UNKNOWN for sample in samples]]
    entries = {}
    for precision in dict.fromkeys(precision for precision, _ in variants.runs):
        auroc = None
        if has_both_labels(labelled):
            found = of_fp32 if precision == "fp32" else score_all(variants.run(precision), labelled, precision)[0]
            auroc = float(roc_auc_score([sample.label for sample in labelled], found[:, column]))
        entries[precision] = Precision(
            model=f"{precision}/model.xml",
            auroc=auroc,
            parity={form: parity[form] for of_precision, form in variants.runs if of_precision == precision},
        )
    if "int8" in entries:
        reason = why_rejected(entries["fp32"].auroc, entries["int8"].auroc, max_auroc_loss)
        if reason is not None:
            entries["int8"] = msgspec.structs.replace(entries["int8"], model=None, accepted=False, reason=reason)
            shutil.rmtree(folder / "int8")
    return entries


def weights_of(node: openvino.Node) -> openvino.Node | None:
    """The weights of a layer of a graph whose constants are folded; ``None`` for other operations.

    A filter of one channel does not count: it smooths a map or a score, which must not be rounded.
    """
    if node.get_type_name() not in _LAYERS:
        return None
    weights = node.input(_WEIGHTS).get_source_output().get_node()
    if weights.get_type_name() != "Constant":
        return None
    shape = tuple(weights.get_output_shape(0))
    return weights if len(shape) > 1 and int(np.prod(shape[:2])) > 1 else None


def in_half_precision(model: openvino.Model) -> openvino.Model:
    """A copy of a graph with the weights of the layers in 16 bits; everything else keeps 32, the arithmetic included.

    OpenVINO's own compression rounds every constant, also those of resizing and of scores. The structural similarity,
    a small difference of large sums, suffers from that.
    """
    model = model.clone()
    for node in model.get_ordered_ops():
        weights = weights_of(node)
        if weights is None or weights.get_element_type() != openvino.Type.f32:
            continue
        halved = operations.constant(weights.data.astype(np.float16), name=f"{weights.get_friendly_name()}/half")
        node.input(_WEIGHTS).replace_source_output(operations.convert(halved, "f32").output(0))
    return model


def quantise(model: openvino.Model, samples: Sequence[PreparedSample]) -> openvino.Model:
    """Quantises the network's layers after training, with ranges from normal images.

    Everything else stays in floating point: resizing, equalisation, and the errors and means that scores are made of.
    Rounding these to 256 steps would cost accuracy and save nothing. nncf's correction of biases is left out: it
    moved the scores of autoencoders away from those of the 32-bit model instead of towards them.
    """
    import nncf  # type: ignore[import-untyped]  # nncf ships no types

    silence_telemetry()
    nncf.set_log_level(logging.ERROR)
    views = list(islice(chain.from_iterable(sample.views for sample in samples), CALIBRATION_PICTURES))
    others = [
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_type_name() not in _HARMLESS and weights_of(node) is None
    ]
    return nncf.quantize(
        model,
        nncf.Dataset(views, lambda view: np.repeat(read_view(view)[np.newaxis, np.newaxis], 3, axis=1)),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(views),
        # Not validated, which would refuse operations that nncf leaves alone anyway.
        ignored_scope=nncf.IgnoredScope(names=others, validate=False),
        advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=True),
    )


def why_rejected(auroc: float | None, quantised_auroc: float | None, max_loss: float = MAX_AUROC_LOSS) -> str | None:
    """The reason to reject an 8-bit model; ``None`` if it is good enough. Without labels there is no AUROC.

    >>> why_rejected(0.9, 0.85)
    'AUROC falls from 0.9000 to 0.8500, by more than 0.005: FP16 is kept.'
    """
    if auroc is None or quantised_auroc is None:
        return "Without normal and abnormal validation images nothing shows that it is as good: FP16 is kept."
    loss = auroc - quantised_auroc
    if loss > max_loss:
        return f"AUROC falls from {auroc:.4f} to {quantised_auroc:.4f}, by more than {max_loss}: FP16 is kept."
    return None
