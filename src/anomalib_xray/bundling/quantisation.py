"""8-bit integers for the network, and the gate that lets them into a bundle."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import chain, islice

import openvino  # type: ignore[import-untyped]  # openvino ships no types

from anomalib_xray.bundling.answers import graph_input
from anomalib_xray.bundling.layers import weights_of
from anomalib_xray.bundling.pictures import Pictures, read_view

CALIBRATION_PICTURES = 300
"""Pictures of normal images that the ranges of 8-bit values are taken from, at most."""

MAX_AUROC_LOSS = 0.005
"""AUROC that the 8-bit model may lose against the 32-bit one on the validation images."""

_HARMLESS = {"Constant", "Parameter", "Result"}


def quantise(model: openvino.Model, radiographs: Sequence[Pictures]) -> openvino.Model:
    """Quantises the network's layers after training, with ranges from normal images.

    Everything else stays in floating point: resizing, equalisation, and the errors and means that scores are made of.
    Rounding these to 256 steps would cost accuracy and save nothing. nncf's correction of biases is left out: it
    moved the scores of autoencoders away from those of the 32-bit model instead of towards them.

    Args:
        model: The graph, constants folded.
        radiographs: Normal images to calibrate with.

    Returns:
        A new graph.
    """
    import nncf  # type: ignore[import-untyped]  # nncf ships no types

    nncf.set_log_level(logging.ERROR)
    views = list(islice(chain.from_iterable(radiograph.views for radiograph in radiographs), CALIBRATION_PICTURES))
    others = [node.get_friendly_name() for node in model.get_ops() if not _may_be_quantised(node)]
    # Without validation names of operations that nncf would leave alone anyway are no mistake.
    ignored = nncf.IgnoredScope(names=others, validate=False)
    return nncf.quantize(
        model,
        nncf.Dataset(views, lambda view: graph_input(read_view(view))),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(views),
        ignored_scope=ignored,
        advanced_parameters=nncf.AdvancedQuantizationParameters(disable_bias_correction=True),
    )


def gate(auroc: float | None, quantised_auroc: float | None, max_loss: float = MAX_AUROC_LOSS) -> str | None:
    """Why an 8-bit model is not to be used.

    Args:
        auroc: Of the 32-bit model on the validation images, ``None`` without labels.
        quantised_auroc: Of the 8-bit one.
        max_loss: What it may lose.

    Returns:
        The reason; ``None`` if it may be used.
    """
    if auroc is None or quantised_auroc is None:
        return "Without normal and abnormal validation images nothing shows that it is as good: FP16 is kept."
    loss = auroc - quantised_auroc
    if loss > max_loss:
        return f"AUROC falls from {auroc:.4f} to {quantised_auroc:.4f}, by more than {max_loss}: FP16 is kept."
    return None


def _may_be_quantised(node: openvino.Node) -> bool:
    return node.get_type_name() in _HARMLESS or weights_of(node) is not None
