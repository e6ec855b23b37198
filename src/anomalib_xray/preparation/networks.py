"""Networks of steps, OpenVINO or ONNX files that run on one thread, and those that segment limbs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.openvino_runtime import openvino_core
from anomalib_xray.preparation.segmentation import limbs, snapped
from anomalib_xray.preparation.step import Mask

_State: TypeAlias = tuple[tuple[int, int], ...]

SHIPPED_MODEL = Path(__file__).parent / "weights" / "foreground_unet.xml"
"""A small U-Net, trained on phantoms and on arms with drawn masks; ``weights/README.md`` tells how."""
_LEAST = 1e-4  # probability beside 0 and 1 that is left, in place of infinite logits
Output: TypeAlias = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class ModelFile:
    """A model on disk, an ``.xml`` or ``.onnx`` file with its ``companions``; ``kind`` is its name in messages.

    Cheap to make; nothing is read before it is used.
    """

    path: Path
    companions: tuple[Path, ...]
    kind: str

    def compiled(self) -> Any:
        """The model, ready to run; loaded again if a file was replaced."""
        return _compiled(self, self.state())

    def fingerprint(self) -> str:
        """SHA-256 of all files together."""
        return _digest(self, self.state())

    def state(self) -> _State:
        """Size and time of each file, which tell a replaced model from the one that was loaded before."""
        with self._readable():
            stats = [file.stat() for file in (self.path, *self.companions)]
        return tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise XrayError(
                f"The {self.kind} {self.path} cannot be read: {error.filename}: {error.strerror}; copy all its files."
            ) from error


@lru_cache(maxsize=8)
def _digest(model: ModelFile, state: _State) -> str:
    del state
    with model._readable():
        return hashlib.sha256(b"".join(file.read_bytes() for file in (model.path, *model.companions))).hexdigest()


@lru_cache(maxsize=8)
def _compiled(model: ModelFile, state: _State) -> Any:
    del state
    # One thread: pictures are spread over processes instead.
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    try:
        return openvino_core().compile_model(model.path, "CPU", settings)
    except RuntimeError as error:
        raise XrayError(
            f"The {model.kind} {model.path} cannot be loaded: give an .xml file with its .bin beside it, or .onnx."
        ) from error


@dataclass(frozen=True)
class Network:
    """A network that gives each pixel's probability, or its logit, of being foreground.

    The picture in [0, 1] is fitted into the input with its aspect kept, centred on 0, and repeated for three channels.

    Attributes:
        path: ``.xml`` or ``.onnx`` file with one input (1, 1 or 3, h, w) of fixed size and a first output (1, 1, h, w).
        output: The kind of its output.
    """

    path: Path = SHIPPED_MODEL
    output: Output = "probabilities"

    def logits(self, view: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The logit of being foreground for each pixel of a view (h, w)."""
        model = _model_file(self.path).compiled()
        _check(model, self.path)
        _, channels, height, width = model.input(0).shape
        image = np.repeat(fit(view, (height, width))[None, None], channels, axis=1)
        answer = np.asarray(model(image)[0], np.float32).reshape(height, width)
        if self.output == "probabilities":
            inner = np.clip(answer, _LEAST, 1 - _LEAST)
            answer = np.log(inner / (1 - inner))
        return unfit(answer, view.shape)

    def segment(self, view: NDArray[np.uint8]) -> Mask:
        """The limbs in a view (h, w): the large parts of a probability of at least 1/2, their outline on the skin."""
        return snapped(limbs(self.logits(view)), view)

    def fingerprint(self) -> str:
        """SHA-256 of the model's files."""
        return _model_file(self.path).fingerprint()


def fit(view: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.float32]:
    """A view (h, w) in [0, 1], fitted into a network's input (H, W) with its aspect kept and centred on 0."""
    top, left, height, width = _place(view.shape, shape)
    fitted = np.zeros(shape, np.float32)
    smaller = cv2.resize(view, (width, height), interpolation=cv2.INTER_AREA)
    fitted[top : top + height, left : left + width] = smaller.astype(np.float32) / 255
    return fitted


def unfit(answer: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A network's answer (H, W) in the place and shape (h, w) of the view that was fitted into its input."""
    top, left, height, width = _place(shape, (answer.shape[0], answer.shape[1]))
    inner = answer[top : top + height, left : left + width]
    return np.asarray(cv2.resize(inner, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def _place(view: tuple[int, ...], shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, left, height and width that a view takes in the input."""
    scale = min(shape[0] / view[0], shape[1] / view[1])
    height, width = max(round(view[0] * scale), 1), max(round(view[1] * scale), 1)
    return (shape[0] - height) // 2, (shape[1] - width) // 2, height, width


def _model_file(path: Path) -> ModelFile:
    weights = path.with_suffix(".bin") if path.suffix == ".xml" else path.with_name(f"{path.name}.data")
    return ModelFile(path.absolute(), (weights.absolute(),) if weights.is_file() else (), "segmentation model")


def _check(model: Any, path: Path) -> None:
    """Refuse models of other inputs or outputs than :class:`Network` names."""
    shapes = [port.partial_shape for port in (*model.inputs, *model.outputs[:1])]
    wanted = len(model.inputs) == 1 and all(shape.is_static for shape in shapes)
    if wanted:
        given, returned = (tuple(port.shape) for port in (model.input(0), model.output(0)))
        wanted = len(given) == 4 and given[0] == 1 and given[1] in (1, 3)
        wanted = wanted and int(np.prod(returned)) == given[2] * given[3] and returned[-2:] == given[2:]
    if not wanted:
        raise XrayError(
            f"The segmentation model {path} goes from {[tuple(shape) for shape in shapes]}: export one with a single "
            "input (1, 1 or 3, h, w) of fixed size and an output (1, 1, h, w)."
        )
