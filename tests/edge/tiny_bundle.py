"""A bundle whose answers are known: the map is the picture, the scores are its maximum and its mean."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import openvino  # type: ignore[import-untyped]  # openvino ships no types
from openvino import opset13 as ops

SIDE = 16
"""Side of the square map."""

CROP = "steps:\n  - resize: {longest_side: 32}\n"
"""A preparation that only changes the size."""

MANIFEST: dict[str, Any] = {
    "format": 4,
    "model": "Tiny",
    "settings": {"image_size": SIDE},
    "created": "2026-01-01T00:00:00Z",
    "notice": "Research use only. Not a medical device.",
    "scores": ["brightest", "mean"],
    "score": "brightest",
    "thresholds": {"brightest": 0.4, "mean": None},
    "pixel_threshold": 0.5,
    "normalization": None,
    "distribution": {"brightest": np.linspace(0.2, 0.6, 101).tolist()},
    "map_limits": [0.0, 0.6],
    "precisions": {
        "fp32": {"model": "fp32/model.xml", "parity": {}},
        "fp16": {"model": "fp16/model.xml"},
        "int8": {"accepted": False, "reason": "AUROC fell by 0.9 points."},
    },
    "precision": "fp32",
    "preparation": None,
    "scope": {"body_parts": [], "views": [], "sides": None},
    "versions": {"openvino": "0"},
    "data": {"images": 250, "normal": 100, "abnormal": 150, "note": "generated", "licence": "Apache-2.0"},
}


def write_bundle(
    folder: Path,
    *,
    preparation: str | None = None,
    files: dict[str, bytes] | None = None,
    with_map: bool = True,
    **changes: Any,
) -> Path:
    """Writes a bundle.

    Args:
        folder: Folder to write to; made if missing.
        preparation: Text of its pipeline's YAML file, if it has one.
        files: Further files by their path in the bundle.
        with_map: Whether the model has an anomaly map.
        changes: Values of ``bundle.json`` to change, after all files have got their checksums.
    """
    written = {name: folder / name / "model.xml" for name in ("fp32", "fp16")}
    for name, path in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        openvino.save_model(tiny_model(with_map=with_map), path, compress_to_fp16=name == "fp16")
    contents = dict(files or {}) | {"README.md": b"A tiny model.\n"}
    if preparation is not None:
        contents["preparation/pipeline.yaml"] = preparation.encode()
    for inner, content in contents.items():
        (folder / inner).parent.mkdir(parents=True, exist_ok=True)
        (folder / inner).write_bytes(content)
    named = None if preparation is None else "preparation/pipeline.yaml"
    manifest = MANIFEST | {"preparation": named, "files": checksums(folder)} | changes
    (folder / "bundle.json").write_text(json.dumps(manifest))
    return seal(folder)


def seal(folder: Path) -> Path:
    """Writes the checksum of the description as it stands."""
    digest = hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
    (folder / "bundle.sha256").write_text(f"{digest}  bundle.json\n")
    return folder


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file but the description."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("bundle.json", "bundle.sha256")
    }


def tiny_model(*, with_map: bool = True) -> openvino.Model:
    """(1, 3, H, W) in [0, 1] -> ``scores`` (1, 2): maximum, mean; ``anomaly_map`` (1, 1, 16, 16): the picture."""
    picture = ops.parameter([-1, 3, -1, -1], np.float32, name="image")
    picture.output(0).tensor.set_names({"image"})
    grey = ops.reduce_mean(picture, ops.constant([1]), True)
    axes = ops.constant([2, 3])
    scores = ops.concat([ops.reduce_max(grey, axes, False), ops.reduce_mean(grey, axes, False)], 1)
    outputs = {"scores": scores}
    if with_map:
        outputs["anomaly_map"] = _squared(grey)
    results = []
    for name, node in outputs.items():
        result = ops.result(node)
        result.output(0).tensor.set_names({name})
        results.append(result)
    return openvino.Model(results, [picture], "tiny")


def _squared(grey: openvino.Node) -> openvino.Node:
    """Pads (N, 1, H, W) to a centred square, an odd remainder at the end, and resizes it to the map's side."""
    shape = ops.shape_of(grey, output_type="i64")
    size = ops.gather(shape, ops.constant(np.array([2, 3])), ops.constant(0))
    missing = ops.subtract(ops.reduce_max(size, ops.constant([0]), True), size)
    before = ops.divide(missing, ops.constant(np.int64(2)))
    none = ops.constant(np.array([0, 0]))
    begin = ops.concat([none, before], 0)
    end = ops.concat([none, ops.subtract(missing, before)], 0)
    square = ops.pad(grey, begin, end, "constant", ops.constant(np.float32(0)))
    sides = ops.constant(np.array([SIDE, SIDE]))
    return ops.interpolate(square, sides, "linear_onnx", "sizes", axes=ops.constant(np.array([2, 3])))
