"""A trained detector of hands, run by OpenVINO."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.text import read_json
from anomalib_xray.preparation.networks import ModelFile

Box = NDArray[np.float64]
"""Corners x0, y0, x1, y1, the second one outside, (4,)."""

_SAME_HAND = 0.5  # share of their union that two boxes have in common from which on they show the same hand


@dataclass(frozen=True)
class Description:
    """The description of a detector in the file beside it.

    Attributes:
        classes: Names of its classes, in the order of its scores.
        hand_classes: Those of them that are hands.
        threshold: Score from which on a box counts, 0 to 1.
    """

    classes: tuple[str, ...]
    hand_classes: tuple[str, ...]
    threshold: float

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(
            {"classes": self.classes, "hand_classes": self.hand_classes, "threshold": self.threshold}, indent=2
        )

    @classmethod
    def of(cls, model: Path) -> Description:
        """Read the file beside a model's .xml file, which has the ending .json instead."""
        path = model.with_suffix(".json")
        try:
            content = read_json(path)
            classes, hands = (tuple(map(str, content[key])) for key in ("classes", "hand_classes"))
            if not set(classes) & set(hands):
                raise ValueError("no class is a hand")
            return cls(classes, hands, float(content["threshold"]))
        except (XrayError, ValueError, KeyError, TypeError) as error:
            raise XrayError(
                f"{path} does not describe a detector of hands: take the .xml file that anomalib-xray train-localizer "
                "wrote, with the .json and .bin files beside it."
            ) from error


@dataclass(frozen=True)
class Detector:
    """A trained network that finds hands. Cheap to make: the network is loaded at first use, once per process.

    Attributes:
        model: ``.xml`` file of ``anomalib-xray train-localizer``, with its .bin and .json beside it. Its input is (1,
            3, h, w) in [0, 1], to which pictures are stretched; its outputs are boxes (K, 4) in pixels of the input,
            and the score of each class in each box (K, C).
        threshold: Score from which on a box counts, 0 to 1; the model's own if None.
        try_rotated: Whether to look at the picture turned by 90 degrees too, and to take those boxes if they are more,
            as arXiv 2001.10883 did.
    """

    model: Path
    threshold: float | None = None
    try_rotated: bool = False

    def boxes(self, view: NDArray[np.uint8]) -> list[Box]:
        """Find the hands in a view (h, w): a box in its pixels for each, the surest first."""
        upright = self._detected(view)
        if not self.try_rotated:
            return upright
        turned = self._detected(np.ascontiguousarray(np.rot90(view)))
        return [_turned_back(box, view.shape[1]) for box in turned] if len(turned) > len(upright) else upright

    def fingerprint(self) -> str:
        """SHA-256 of the model's files."""
        return _model_file(self.model).fingerprint()

    def _detected(self, view: NDArray[np.uint8]) -> list[Box]:
        file = _model_file(self.model)
        compiled, description = _loaded(file, file.fingerprint())
        _, _, height, width = compiled.input(0).shape
        fitted = cv2.resize(view, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
        answer = compiled(np.repeat(fitted[None, None], 3, axis=1))
        # A hand may well look like a left and a right one: its score as a hand is that of the likelier side.
        hands = [name in description.hand_classes for name in description.classes]
        scores = np.asarray(answer[1])[:, hands].max(axis=1)
        threshold = description.threshold if self.threshold is None else self.threshold
        chosen = scores >= threshold
        corners = np.asarray(answer[0])[chosen].astype(np.float64)
        sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        kept = cv2.dnn.NMSBoxes(sides.tolist(), scores[chosen].tolist(), 0.0, _SAME_HAND)
        stretch = np.array([view.shape[1] / width, view.shape[0] / height] * 2)
        return [corners[index] * stretch for index in np.asarray(kept, int).ravel()]


def _turned_back(box: Box, width: int) -> Box:
    """A box on a picture of this width from one on the picture turned by 90 degrees against the clock."""
    x0, y0, x1, y1 = box
    return np.array([width - y1, x0, width - y0, x1])


def _model_file(model: Path) -> ModelFile:
    return ModelFile(model, (model.with_suffix(".bin"), model.with_suffix(".json")), "detector")


@lru_cache(maxsize=4)
def _loaded(file: ModelFile, fingerprint: str) -> tuple[Any, Description]:
    """The model, ready to run, and its description."""
    del fingerprint  # tells a replaced model from the one that was loaded before
    description = Description.of(file.path)
    compiled = file.compiled()
    _check(compiled, description, file.path)
    return compiled, description


def _check(compiled: Any, description: Description, model: Path) -> None:
    """Refuse models of other inputs or outputs than :class:`Detector` names."""
    shapes = [port.partial_shape for port in (*compiled.inputs, *compiled.outputs)]
    if len(shapes) == 3 and all(shape.is_static for shape in shapes):
        image, boxes, scores = (tuple(shape.to_shape()) for shape in shapes)
        wanted = (*boxes[:1], 4), (*boxes[:1], len(description.classes))
        if image[:2] == (1, 3) and len(image) == 4 and (boxes, scores) == wanted:
            return
    raise XrayError(f"{model} is no detector: take the .xml file that anomalib-xray train-localizer wrote.")
