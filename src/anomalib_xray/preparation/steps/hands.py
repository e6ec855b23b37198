"""The step that finds the hands, crops them, and makes two pictures of one that shows both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph
from anomalib_xray.preparation.contours import Labels, find_hands, from_left, is_plate
from anomalib_xray.preparation.detector import Detector
from anomalib_xray.preparation.step import Mask, Matrix, Plan, Step
from anomalib_xray.preparation.view import small_view

_SMALL = 0.04  # share of the picture below which a hand has too few pixels to be judged, or is none
_RAGGED = 0.02  # share of the picture's frame that the outline of a forearm may leave out
_GROWN = 2.0  # pixels of the view by which a hand reaches over its outline there, to keep its rim in a larger picture

_HELD = 0.2  # share of a part's pixels that a box must hold for the part to be, at least in part, its hand


class Hands(Step):
    """Crop the hands. Everything else becomes background; a picture of two hands becomes two, from left to right.

    A hand here is any limb: a forearm, an elbow, a cast. One connected limb stays one picture, whatever its bends.

    Comes after the foreground step: the mask of all hands is where the picture is not 0. The method ``contours`` takes
    each connected part of it for a hand, together with parts that go on beyond a bangle, and cuts a part only if that
    makes two hands of like size side by side, which touched; remains of strips at a border are no hands. The method
    ``detector`` gives each part to the box of a trained network that holds it, and divides a part that several boxes
    hold; on a picture without foreground mask it crops the boxes themselves, as arXiv 2001.10883 did.

    Flags: ``no_hand`` (the picture passes unchanged), ``two_hands``, ``several_hands`` (three or more, of which some
    are hardly hands), ``hands_touching`` (they were cut apart), ``hand_cut`` (a hand leaves the picture at two places
    or more) and ``small_hand`` (a hand covers less than 4 % of the picture).

    Args:
        method: ``contours`` needs no training; ``detector`` needs ``model``.
        margin: Background left around a hand, as a share of the longer side of its box, 0 to 1; never more than the
            picture has.
        smallest: With ``contours``: share of the largest part's area below which a part is dropped as no hand, above 0
            and up to 1.
        model: With ``detector``: the .xml file that ``anomalib-xray train-localizer`` wrote, with its .bin and .json.
        threshold: With ``detector``: score from which on a box counts, 0 to 1; the model's own when not given.
        try_rotated: With ``detector``: looks at the picture turned by 90 degrees too, and takes those boxes if they are
            more, as published.

    Raises:
        XrayError: A setting has an impossible value.
    """

    version: ClassVar[int] = 2
    failures: ClassVar[frozenset[str]] = frozenset({"no_hand"})

    def __init__(
        self,
        method: Literal["contours", "detector"] = "contours",
        margin: float = 0.02,
        smallest: float = 0.2,
        model: Path | None = None,
        threshold: float | None = None,
        try_rotated: bool = False,
    ) -> None:
        if method not in ("contours", "detector"):
            raise XrayError(f"method is contours or detector, not {method!r}.")
        if not 0 <= margin <= 1:
            raise XrayError(f"margin is a share from 0 to 1, not {margin}.")
        if not 0 < smallest <= 1:
            raise XrayError(f"smallest is a share above 0 and up to 1, not {smallest}.")
        if threshold is not None and not 0 <= threshold <= 1:
            raise XrayError(f"threshold is a score from 0 to 1, not {threshold}.")
        if (method == "detector") != (model is not None):
            raise XrayError("method: detector and model belong together: set both, or neither.")
        self.margin = margin
        self.smallest = smallest
        self.detector = None if model is None else Detector(Path(model), threshold, try_rotated)

    def plan(self, image: Radiograph) -> Plan:
        """Find the ``hands``: for each its ``box`` [x0, y0, x1, y1], the second corner outside, and its ``mask``."""
        shown = image > 0
        foreground = small_view(shown.view(np.uint8) * np.uint8(255)) > 127
        if self.detector is None:
            labels, touching = find_hands(foreground, self.smallest)
        else:
            labels, touching = divide(foreground, self.detector.boxes(small_view(image)))
        count = int(labels.max(initial=0))
        if count == 0:
            return Plan(flags=("no_hand",))
        grown = _in_size_of(labels, shown.shape)
        hands = [self._cropped(shown & (grown == number)) for number in range(1, count + 1)]
        return Plan({"hands": hands}, _flags(labels, touching=touching))

    def parts(self, plan: Plan) -> Sequence[Plan]:
        """One plan per hand, from left to right."""
        return [Plan({"hands": [hand]}, plan.flags) for hand in plan.parameters["hands"]]

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        """Crop the one hand of a plan's part; everything else within the box becomes 0."""
        (hand,) = plan.parameters["hands"]
        x0, y0, x1, y1 = hand["box"]
        return cast("Radiograph", image[y0:y1, x0:x1] * hand["mask"])

    def matrix(self, plan: Plan) -> Matrix:
        """The shift to the corner of the one hand of a plan's part."""
        (hand,) = plan.parameters["hands"]
        x0, y0, _, _ = hand["box"]
        return np.array([[1.0, 0.0, -x0], [0.0, 1.0, -y0], [0.0, 0.0, 1.0]])

    def fingerprint(self, name: str) -> str:
        """Hash of the detector's files; empty without one."""
        del name
        return "" if self.detector is None else self.detector.fingerprint()

    def _cropped(self, hand: Mask) -> dict[str, Any]:
        """A hand's mask (H, W) as its box with margin, and its mask therein."""
        x0, y0, width, height = cv2.boundingRect(hand.view(np.uint8))
        margin = round(self.margin * max(width, height))
        box = [
            max(x0 - margin, 0),
            max(y0 - margin, 0),
            min(x0 + width + margin, hand.shape[1]),
            min(y0 + height + margin, hand.shape[0]),
        ]
        return {"box": box, "mask": hand[box[1] : box[3], box[0] : box[2]].copy()}


def _in_size_of(labels: Labels, shape: tuple[int, ...]) -> NDArray[np.integer]:
    """The hands (H, W) of a picture, from those (h, w) of its view."""
    if labels.shape == shape:
        return labels
    distance, nearest = cv2.distanceTransformWithLabels(
        (labels == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    # OpenCV numbers the hands' pixels and says which of them is nearest: from the number to the hand it belongs to.
    owners = np.zeros(int(nearest.max()) + 1, np.int32)
    owners[nearest[labels > 0]] = labels[labels > 0]
    grown = np.where(distance <= _GROWN, owners[nearest], 0)
    return np.asarray(cv2.resize(grown.astype(np.uint8), (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST))


def _flags(labels: Labels, *, touching: bool) -> tuple[str, ...]:
    """The flags for the hands (H, W) of a picture."""
    hands = [labels == number for number in range(1, int(labels.max()) + 1)]
    raised = {
        "two_hands": len(hands) == 2,
        "several_hands": len(hands) > 2,
        "hands_touching": touching,
        "hand_cut": any(_exits(hand) > 1 for hand in hands),
        "small_hand": any(hand.mean() < _SMALL for hand in hands),
    }
    return tuple(flag for flag, is_so in raised.items() if is_so)


def _exits(hand: Mask) -> int:
    """Number of places at which a hand (H, W) leaves the picture; a forearm at a corner does so once."""
    frame = np.concatenate([hand[0], hand[1:, -1], hand[-1, -2::-1], hand[-2:0:-1, 0]])
    places = np.flatnonzero(frame)
    if places.size == 0:
        return 0
    # The outline of a forearm is ragged, hence the tolerance.
    return int(np.count_nonzero(np.diff(places, append=places[0] + frame.size) > _RAGGED * frame.size))


def divide(foreground: Mask, boxes: Sequence[NDArray[np.float64]]) -> tuple[Labels, bool]:
    """Give the foreground (H, W) to boxes (4,): the hands, from left to right, and whether some touched and were cut.

    A box of a detector is rough. So a connected part of the foreground that only one box holds belongs to it as a
    whole, fingertips outside the box included; a part that several boxes hold is divided among them; a part that no box
    holds is dropped. A part that is a plate, or the whole picture, and not the outline of a hand is cut at the boxes.
    """
    labels = np.zeros(foreground.shape, np.int32)
    touching = False
    if not boxes:
        return labels, touching
    remoteness = np.stack([_remoteness(foreground.shape, box) for box in boxes])
    count, parts = cv2.connectedComponents(foreground.astype(np.uint8))
    held = np.stack([np.bincount(parts[inside], minlength=count) for inside in remoteness <= 1])
    holds = held[:, 1:] >= _HELD * np.bincount(parts.ravel(), minlength=count)[1:]
    for part in np.flatnonzero(held[:, 1:].any(axis=0)) + 1:
        body = np.asarray(parts == part)
        plate = is_plate(body)
        holders = np.flatnonzero(held[:, part] if plate else holds[:, part - 1])
        if holders.size == 0:
            continue
        nearest = holders[remoteness[holders].argmin(axis=0)] + 1
        labels[body] = np.where(remoteness.min(axis=0) <= 1, nearest, 0)[body] if plate else nearest[body]
        touching |= holders.size > 1 and not plate
    return from_left(labels), touching


def _remoteness(shape: tuple[int, ...], box: NDArray[np.float64]) -> NDArray[np.float32]:
    """The distance of each pixel (H, W) from a box's centre: 0 there, 1 at the box's edge."""
    x0, y0, x1, y1 = box
    x = np.abs(np.arange(shape[1]) - (x0 + x1 - 1) / 2) / max((x1 - x0) / 2, 0.5)
    y = np.abs(np.arange(shape[0]) - (y0 + y1 - 1) / 2) / max((y1 - y0) / 2, 0.5)
    return np.asarray(np.maximum(x[None, :], y[:, None]), np.float32)
