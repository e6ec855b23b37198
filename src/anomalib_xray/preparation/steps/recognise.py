"""The step that names the body part and leaves the picture as it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph
from anomalib_xray.io.text import read_json
from anomalib_xray.preparation.networks import ModelFile, fit
from anomalib_xray.preparation.step import Plan, Step
from anomalib_xray.preparation.view import small_view

SIDE = 128
"""Sides of the network's input in pixels: enough to tell a knee from an elbow, too few for noise and compression."""

VIEW_SIDE = 160
"""Longest side in pixels of the view that the input is made of, in the training too."""

UNSURE = "body_part_unsure"
"""Flag: the confidence is below the network's threshold."""

SHIPPED_RECOGNISER = Path(__file__).parents[1] / "weights" / "recogniser.xml"
"""A small network of five body parts; ``weights/README.md`` tells how it was trained."""


@dataclass(frozen=True)
class Description:
    """The description of a network in the file beside it.

    Attributes:
        body_parts: Names of the body parts, in the order of the network's probabilities.
        threshold: Confidence below which the network is unsure, 0 to 1.
    """

    body_parts: tuple[str, ...]
    threshold: float

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps({"body_parts": self.body_parts, "threshold": self.threshold}, indent=2) + "\n"

    @classmethod
    def of(cls, model: Path) -> Description:
        """Read the file beside a model's .xml file, which has the ending .json instead."""
        path = model.with_suffix(".json")
        try:
            content = read_json(path)
            return cls(tuple(map(str, content["body_parts"])), float(content["threshold"]))
        except (XrayError, ValueError, KeyError, TypeError) as error:
            raise XrayError(
                f"{path} names no body parts: take the .xml file that anomalib-xray train-recogniser wrote, with the "
                ".json and .bin files beside it."
            ) from error


class Recognise(Step):
    """Name the body part that a picture shows; the picture stays as it is.

    It writes the columns ``body_part`` and ``body_part_confidence`` of the manifest, and stands where bones are bright,
    behind ``inversion``; raw pictures serve, and prepared ones too. The flag ``body_part_unsure`` says that the
    confidence is below the threshold. The network that comes along knows ``chest``, ``hand`` (the arm from the elbow
    down), ``hip``, ``leg`` and ``shoulder``; of any other part it names one of these.

    Args:
        model: The .xml file that ``anomalib-xray train-recogniser`` wrote, with its .bin and .json; by default the
            network that comes with this package.
        threshold: Confidence below which a picture is flagged, 0 to 1; the model's own when not given.

    Raises:
        XrayError: The threshold is no such number, or the file does not exist.
    """

    def __init__(self, model: Path | None = None, threshold: float | None = None) -> None:
        if threshold is not None and not 0 <= threshold <= 1:
            raise XrayError(f"threshold is a confidence from 0 to 1, not {threshold}.")
        if model is not None and not model.is_file():
            raise XrayError(f"The model {model} does not exist: give the .xml file of anomalib-xray train-recogniser.")
        self.model = SHIPPED_RECOGNISER if model is None else model
        self.threshold = threshold

    def plan(self, image: Radiograph) -> Plan:
        """Name the ``body_part`` and the ``confidence``, 0 to 1, that it is."""
        probabilities, description = _answer(self.model, input_of(image))
        best = int(probabilities.argmax())
        confidence = round(float(probabilities[best]), 4)
        threshold = description.threshold if self.threshold is None else self.threshold
        found = {"body_part": description.body_parts[best], "confidence": confidence}
        return Plan(found, (UNSURE,) if confidence < threshold else ())

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        """Leave the picture as it is."""
        del plan
        return image

    def fingerprint(self, name: str) -> str:
        """SHA-256 of the network's files."""
        del name
        return _model_file(self.model).fingerprint()


def input_of(image: Radiograph) -> NDArray[np.float32]:
    """The input (128, 128) in [0, 1] that the network sees of a picture (H, W), its aspect kept.

    >>> input_of(np.zeros((300, 200), np.uint8)).shape
    (128, 128)
    """
    return fit(small_view(image, VIEW_SIDE), (SIDE, SIDE))


def recognise(model: Path, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The probability (K,) of each body part of a network's input (128, 128), by the network in an .xml file."""
    return _answer(model, image)[0]


def _answer(model: Path, image: NDArray[np.float32]) -> tuple[NDArray[np.float32], Description]:
    file = _model_file(model)
    network, description = _loaded(file, file.fingerprint())
    (probabilities,) = np.asarray(network(image[None, None])[0], np.float32)
    return probabilities, description


def _model_file(model: Path) -> ModelFile:
    return ModelFile(model, (model.with_suffix(".bin"), model.with_suffix(".json")), "network of body parts")


@lru_cache(maxsize=4)
def _loaded(file: ModelFile, fingerprint: str) -> tuple[Any, Description]:
    """The network, ready to run, with its description."""
    del fingerprint  # tells a replaced model from the one that was loaded before
    compiled, description = file.compiled(), Description.of(file.path)
    shapes = [port.partial_shape for port in (*compiled.inputs, *compiled.outputs)]
    if [str(shape) for shape in shapes] != [f"[1,1,{SIDE},{SIDE}]", f"[1,{len(description.body_parts)}]"]:
        raise XrayError(
            f"{file.path} is no network of body parts: take the .xml file of anomalib-xray train-recogniser."
        )
    return compiled, description
