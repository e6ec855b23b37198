"""Segmentation networks as OpenVINO or ONNX files: the one that comes with this package, or a user's own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import openvino  # type: ignore[import-untyped]  # openvino ships no types
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.preparation.segmentation.parts import central_parts, fill_holes
from anomalib_xray.preparation.step import Mask

SHIPPED_MODEL = Path(__file__).parents[1] / "weights" / "foreground_unet.xml"
"""A small U-Net that was trained on phantoms; ``weights/README.md`` tells how."""

Output: TypeAlias = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class Network:
    """A network that gives each pixel's probability, or its logit, of being foreground.

    The picture in [0, 1] is fitted into the input with its aspect kept, centred on 0, and repeated where the network
    wants three channels.

    Attributes:
        path: ``.xml`` or ``.onnx`` file with one input (1, 1 or 3, h, w) of fixed size and a first output (1, 1, h, w).
        output: What the network gives.
    """

    path: Path = SHIPPED_MODEL
    output: Output = "probabilities"

    def segment(self, view: NDArray[np.uint8]) -> Mask:
        """Finds the foreground.

        Args:
            view: (h, w), bones bright.

        Returns:
            (h, w): the hands among what has a probability of at least 1/2, without holes.

        Raises:
            XrayError: The file cannot be loaded, or its inputs or outputs are others.
        """
        model = _compiled(*_state(self.path))
        _, channels, height, width = model.input(0).shape
        image = np.repeat(fit(view, (height, width))[None, None], channels, axis=1)
        answer = np.asarray(model(image)[0], np.float32).reshape(height, width)
        return to_mask(answer if self.output == "logits" else answer - 0.5, view.shape)

    def fingerprint(self) -> str:
        """SHA-256 of the model's files.

        Raises:
            XrayError: A file cannot be read.
        """
        return _digest(*_state(self.path))


def fit(view: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.float32]:
    """A view in [0, 1], fitted into a network's input with its aspect kept and centred on 0.

    Args:
        view: (h, w).
        shape: Height and width of the input.

    Returns:
        (H, W).
    """
    top, left, height, width = _place(view.shape, shape)
    fitted = np.zeros(shape, np.float32)
    smaller = cv2.resize(view, (width, height), interpolation=cv2.INTER_AREA)
    fitted[top : top + height, left : left + width] = smaller.astype(np.float32) / 255
    return fitted


def to_mask(logits: NDArray[np.float32], shape: tuple[int, ...]) -> Mask:
    """A network's answer as a mask of the view that was fitted into its input.

    Args:
        logits: (H, W), at least 0 where the foreground is.
        shape: Height and width of the view.

    Returns:
        (h, w): the hands among it, without holes.
    """
    top, left, height, width = _place(shape, (logits.shape[0], logits.shape[1]))
    inner = logits[top : top + height, left : left + width]
    larger = cv2.resize(inner, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return fill_holes(central_parts(np.asarray(larger >= 0)))


def _place(view: tuple[int, ...], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, left, height and width that a view takes in the input."""
    scale = min(shape[0] / view[0], shape[1] / view[1])
    height, width = max(round(view[0] * scale), 1), max(round(view[1] * scale), 1)
    return (shape[0] - height) // 2, (shape[1] - width) // 2, height, width


def _files(path: Path) -> list[Path]:
    """The model's file and, where its weights lie beside it, theirs."""
    weights = path.with_suffix(".bin") if path.suffix == ".xml" else path.with_name(f"{path.name}.data")
    return [file for file in (path, weights) if file == path or file.is_file()]


def _state(path: Path) -> tuple[Path, tuple[tuple[int, int], ...]]:
    """The path with size and time of the files, which tell a replaced model from the one that was loaded before."""
    try:
        stats = [file.stat() for file in _files(path)]
    except OSError as error:
        raise XrayError(f"The segmentation model {path} cannot be read: {error.strerror}.") from error
    return path.absolute(), tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)


@lru_cache(maxsize=4)
def _digest(path: Path, state: tuple[tuple[int, int], ...]) -> str:
    del state
    digest = hashlib.sha256()
    try:
        for file in _files(path):
            digest.update(file.read_bytes())
    except OSError as error:
        raise XrayError(f"The segmentation model {path} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()


@lru_cache(maxsize=4)
def _compiled(path: Path, state: tuple[tuple[int, int], ...]) -> Any:  # noqa: ANN401  # openvino ships no types
    """The model, ready to run on one thread; pictures are spread over processes instead."""
    del state
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    try:
        model = openvino.Core().compile_model(path, "CPU", settings)
    except RuntimeError as error:
        raise XrayError(
            f"The segmentation model {path} cannot be loaded: give an .xml file with its .bin beside it, or .onnx."
        ) from error
    _check(model, path)
    return model


def _check(model: Any, path: Path) -> None:  # noqa: ANN401  # openvino ships no types
    """Refuses models of other inputs or outputs than :class:`Network` names."""
    shapes = [tuple(port.partial_shape) for port in (*model.inputs, *model.outputs[:1])]
    wanted = len(model.inputs) == 1 and all(
        port.partial_shape.is_static for port in (*model.inputs, *model.outputs[:1])
    )
    if wanted:
        given, returned = (tuple(port.shape) for port in (model.input(0), model.output(0)))
        wanted = len(given) == 4 and given[0] == 1 and given[1] in (1, 3)
        wanted = wanted and int(np.prod(returned)) == given[2] * given[3] and returned[-2:] == given[2:]
    if not wanted:
        raise XrayError(
            f"The segmentation model {path} goes from {shapes}: export one with a single input (1, 1 or 3, h, w) of "
            "fixed size and an output (1, 1, h, w)."
        )
