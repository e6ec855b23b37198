from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino  # type: ignore[import-untyped]  # openvino ships no types
import pytest
from openvino import opset13 as ops

from .tiny_bundle import MANIFEST, SIDE, checksums, seal

OLD: dict[str, Any] = {
    "format": 1,
    "notice": "Research use only. Not a medical device.",
    "model": "Tiny",
    "settings": {"image_size": SIDE},
    "score": "brightest",
    "parity": {"passed": True},
    "versions": {"openvino": "0"},
}
"""Description of a stock export of an earlier version, less what a graph normalises by."""


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Writes a stock export whose map is the picture itself, and whose score is the picture's largest value."""

    def make(
        name: str = "bundle",
        *,
        image: tuple[float, float, float] | None = None,
        pixel: tuple[float, float, float] | None = None,
        with_map: bool = True,
        old: bool = False,
        **changes: Any,
    ) -> Path:
        """``image`` and ``pixel`` are (threshold, minimum, maximum) of the normalisation, ``None`` for raw outputs."""
        folder = tmp_path / name
        folder.mkdir(parents=True)
        openvino.save_model(_model(image, pixel, with_map), folder / "model.xml", compress_to_fp16=False)
        limits = {"image": image and image[1:], "pixel": pixel and pixel[1:]}
        if old:
            thresholds = {"image": image and image[0], "pixel": pixel and pixel[0]}
            metadata = OLD | {"threshold": thresholds, "normalization": limits} | changes
            (folder / "metadata.json").write_text(json.dumps(metadata))
            return folder
        description = MANIFEST | {
            "scores": ["brightest"],
            "thresholds": {"brightest": image and image[0]},
            "pixel_threshold": pixel and pixel[0],
            "normalization": limits,
            "distribution": {},
            "map_limits": pixel and pixel[1:],
            "precisions": {"fp32": {"model": "model.xml"}},
            "files": checksums(folder),
            "data": {},
        }
        (folder / "bundle.json").write_text(json.dumps(description | changes))
        return seal(folder)

    return make


def _model(
    image: tuple[float, float, float] | None, pixel: tuple[float, float, float] | None, with_map: bool
) -> openvino.Model:
    picture = ops.parameter([-1, 3, -1, -1], np.float32, name="input")
    grey = ops.reduce_max(picture, ops.constant([1]), False)
    score = _normalised(ops.reduce_max(grey, ops.constant([1, 2]), False), image)
    outputs = {"pred_score": score, "pred_label": ops.greater_equal(score, ops.constant(np.float32(0.5)))}
    if with_map:
        # Only square pictures of the map's own side leave this graph as they are; others are padded and resized here.
        anomaly_map = _normalised(_squared(grey), pixel)
        outputs |= {
            "anomaly_map": anomaly_map,
            "pred_mask": ops.greater_equal(anomaly_map, ops.constant(np.float32(0.5))),
        }
    results = []
    for name, node in outputs.items():
        result = ops.result(node)
        result.output(0).tensor.set_names({name})
        results.append(result)
    return openvino.Model(results, [picture], "tiny")


def _normalised(raw: openvino.Node, scale: tuple[float, float, float] | None) -> openvino.Node:
    """1/2 + x / (1 + 2 |x|), with x = (raw - threshold) / (maximum - minimum)."""
    if scale is None:
        return raw
    threshold, minimum, maximum = (np.float32(value) for value in scale)
    x = ops.divide(ops.subtract(raw, threshold), np.float32(maximum - minimum))
    return ops.add(np.float32(0.5), ops.divide(x, ops.add(np.float32(1), ops.multiply(np.float32(2), ops.absolute(x)))))


def _squared(grey: openvino.Node) -> openvino.Node:
    """Pads (N, H, W) to a centred square, an odd remainder at the bottom or right, and resizes it to the map's side."""
    shape = ops.shape_of(grey, output_type="i64")
    size = ops.gather(shape, ops.constant(np.array([1, 2])), ops.constant(0))
    missing = ops.subtract(ops.reduce_max(size, ops.constant([0]), True), size)
    before = ops.divide(missing, ops.constant(np.int64(2)))
    none = ops.constant(np.array([0]))
    begin = ops.concat([none, before], 0)
    end = ops.concat([none, ops.subtract(missing, before)], 0)
    square = ops.pad(grey, begin, end, "constant", ops.constant(np.float32(0)))
    return ops.interpolate(
        ops.unsqueeze(square, ops.constant([1])),
        ops.constant(np.array([SIDE, SIDE])),
        "linear_onnx",
        "sizes",
        axes=ops.constant(np.array([2, 3])),
    )
