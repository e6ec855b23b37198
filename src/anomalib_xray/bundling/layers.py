"""The layers of a network inside its graph: what may be stored or computed in fewer bits."""

from __future__ import annotations

import numpy as np
import openvino  # type: ignore[import-untyped]  # openvino ships no types
from openvino import opset13 as operations

_LAYERS = {"Convolution", "ConvolutionBackpropData", "GroupConvolution", "MatMul"}
_WEIGHTS = 1  # number of their input that holds the weights


def weights_of(node: openvino.Node) -> openvino.Node | None:
    """The weights of a layer of the network.

    Args:
        node: An operation of a graph whose constants are folded.

    Returns:
        The constant; ``None`` if the operation is no layer. A filter of one channel is none: it smooths a map or a
        score, which must not be rounded.
    """
    if node.get_type_name() not in _LAYERS:
        return None
    weights = node.input(_WEIGHTS).get_source_output().get_node()
    if weights.get_type_name() != "Constant":
        return None
    shape = tuple(weights.get_output_shape(0))
    return weights if len(shape) > 1 and int(np.prod(shape[:2])) > 1 else None


def in_half_precision(model: openvino.Model) -> openvino.Model:
    """Stores the weights of the layers in 16 bits; everything else, the arithmetic included, keeps 32.

    OpenVINO's own compression rounds every constant, also those of resizing and of scores. The structural similarity,
    a small difference of large sums, suffers from that.

    Args:
        model: The graph, constants folded.

    Returns:
        A new graph.
    """
    model = model.clone()
    for node in model.get_ordered_ops():
        weights = weights_of(node)
        if weights is None or weights.get_element_type() != openvino.Type.f32:
            continue
        halved = operations.constant(weights.data.astype(np.float16), name=f"{weights.get_friendly_name()}/half")
        node.input(_WEIGHTS).replace_source_output(operations.convert(halved, "f32").output(0))
    return model
