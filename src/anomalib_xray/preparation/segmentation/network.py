"""Segmentation networks as OpenVINO or ONNX files: the one that comes with this package, or a user's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.preparation.model_file import ModelFile
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
        model = _model_file(self.path).compiled()
        _check(model, self.path)
        _, channels, height, width = model.input(0).shape
        image = np.repeat(fit(view, (height, width))[None, None], channels, axis=1)
        answer = np.asarray(model(image)[0], np.float32).reshape(height, width)
        return to_mask(answer if self.output == "logits" else answer - 0.5, view.shape)

    def fingerprint(self) -> str:
        """SHA-256 of the model's files.

        Raises:
            XrayError: A file cannot be read.
        """
        return _model_file(self.path).fingerprint()


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


def _model_file(path: Path) -> ModelFile:
    weights = path.with_suffix(".bin") if path.suffix == ".xml" else path.with_name(f"{path.name}.data")
    return ModelFile(path.absolute(), (weights.absolute(),) if weights.is_file() else (), "segmentation model")


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
