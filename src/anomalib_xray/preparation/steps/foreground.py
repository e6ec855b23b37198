"""The step that keeps the grey levels of the limbs and sets everything else to 0."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias, cast, get_args

import cv2
import numpy as np

from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import is_below
from anomalib_xray.io.read import Radiograph, read_radiograph
from anomalib_xray.preparation.networks import SHIPPED_MODEL, Network, Output
from anomalib_xray.preparation.segmentation import agreed, flat_foreground, grabcut_foreground
from anomalib_xray.preparation.sources import prepared_name
from anomalib_xray.preparation.step import Mask, Place, Plan, Step
from anomalib_xray.preparation.view import full_mask, small_view

Method: TypeAlias = Literal["auto", "flat", "grabcut", "network", "masks"]

NO_FOREGROUND = "no_foreground"
"""Flag: nothing stands out from the background; the picture passes as it is."""
DOUBTFUL = "foreground_doubtful"
"""Flag: the network and the grey levels contradict each other, or the foreground is implausibly small or large."""
NO_READY_MASK = "no_ready_mask"
"""Flag: the drawn mask of this picture is missing; the method ``flat`` stood in."""

_PLAUSIBLE_SHARE = (0.02, 0.7)
_DOUBTFUL = 0.1  # of 160 masks looked at, 8 of the 14 above were found wanting, and 2 of those below


class Foreground(Step):
    """Set the background to 0 and leave the foreground at 1 at least (arXiv 2001.10883, section on preprocessing).

    The picture should have bright bones and be cropped to its carrier. Everything is found in a view of at most 512
    pixels, and at that resolution. All limbs are kept, with what they wear; white strips and the plate are not.

    Args:
        method: Method of the search. ``flat`` takes the parts that stand out from a smooth background; ``network`` asks
            a network, and moves its outline onto the skin; ``auto`` asks both: a network that is sure decides, and what
            it is unsure of is foreground where it stands out; ``grabcut`` is the alternative that was tried for the
            publication; ``masks`` takes masks that were drawn already, and ``flat`` if one is missing, which is
            flagged.
        model: OpenVINO or ONNX file of a network of your own, for ``auto`` and ``network``; by default the one that
            comes with this package.
        model_output: Output of the network for a pixel: the probability of foreground, or its logit.
        masks: Folder of the drawn masks, for ``masks``: below it, the mask of ``a/b.jpg`` is ``a/b.png``, as large as
            the original and 0 on the background.

    Raises:
        XrayError: A setting is unknown, missing or without effect, or the file or folder does not exist.
    """

    version = 3  # network and grey levels decide together
    failures: ClassVar[frozenset[str]] = frozenset({NO_FOREGROUND})

    def __init__(
        self,
        method: Method = "auto",
        model: Path | None = None,
        model_output: Output = "probabilities",
        masks: Path | None = None,
    ) -> None:
        _check_settings(method, model, model_output, masks)
        self.method = method
        self.network = Network(SHIPPED_MODEL if model is None else model, model_output)
        self.masks = None if masks is None else ReadyMasks(masks)

    def plan(self, image: Radiograph) -> Plan:
        """Find the ``mask`` (H, W) of the limbs, or none with the flag ``no_foreground``.

        The flag ``foreground_doubtful`` asks for a look at the result, ``no_ready_mask`` for a drawn mask. The
        parameter ``doubt``, from 0 to 1, tells which result to look at first.
        """
        view = small_view(image)
        if self.method == "auto":
            flat = flat_foreground(view)
            mask, doubt = agreed(self.network.logits(view), flat, view)
            if not _plausible(mask) and _plausible(flat):
                mask, doubt = flat, 1.0
            return _planned(mask, image.shape, doubt)
        if self.method == "masks":
            return _planned(flat_foreground(view), image.shape, 0.0, (NO_READY_MASK,))
        segment = {"flat": flat_foreground, "grabcut": grabcut_foreground, "network": self.network.segment}[self.method]
        return _planned(segment(view), image.shape, 0.0)

    def plan_at(self, image: Radiograph, place: Place) -> Plan:
        """Plan like :meth:`plan`, with the mask that was drawn for the original if there is one."""
        drawn = self.masks.mask_at(place, image.shape) if self.masks else None
        if drawn is None:
            return self.plan(image)
        return Plan({"mask": drawn}) if drawn.any() else Plan(flags=(NO_FOREGROUND,))

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        """Set everything outside of the planned mask to 0, and zeros inside of it to 1."""
        lifted = np.maximum(image, 1)
        return cast("Radiograph", np.multiply(lifted, plan.parameters["mask"], out=lifted))

    def fingerprint(self, name: str) -> str:
        """SHA-256 of the network's files, or of the drawn mask; empty without either."""
        if self.masks is not None:
            return self.masks.fingerprint(name)
        return self.network.fingerprint() if self.method in ("auto", "network") else ""


def _check_settings(method: str, model: Path | None, model_output: str, masks: Path | None) -> None:
    if method not in get_args(Method):
        raise XrayError(f"The method {method!r} is unknown; choose one of {', '.join(get_args(Method))}.")
    if model_output not in get_args(Output):
        raise XrayError(f"The model_output {model_output!r} is unknown; choose one of {', '.join(get_args(Output))}.")
    if (masks is not None) != (method == "masks"):
        raise XrayError("The setting masks, a folder, and the method 'masks' need each other: give both or neither.")
    if model is not None and method not in ("auto", "network"):
        raise XrayError(f"The setting model has no effect with the method {method!r}: leave it out.")
    if model is None and model_output != "probabilities":
        raise XrayError("The setting model_output belongs to a model of your own: set model, or leave it out.")
    if masks is not None and not masks.is_dir():
        raise XrayError(f"The folder of masks {masks} does not exist.")
    if model is not None and not model.is_file():
        raise XrayError(f"The model {model} does not exist: give an .xml or .onnx file.")


def _plausible(mask: Mask) -> bool:
    return bool(_PLAUSIBLE_SHARE[0] <= mask.mean() <= _PLAUSIBLE_SHARE[1])


def _planned(mask: Mask, shape: tuple[int, ...], doubt: float, flags: tuple[str, ...] = ()) -> Plan:
    """The plan for a picture (H, W) in whose view a mask was found."""
    full = full_mask(mask, shape)
    if not full.any():
        return Plan(flags=(*flags, NO_FOREGROUND))
    if not _plausible(mask):
        doubt = 1.0
    if doubt >= _DOUBTFUL:
        flags = (*flags, DOUBTFUL)
    return Plan({"mask": full, "doubt": round(doubt, 3)}, flags)


@dataclass(frozen=True)
class ReadyMasks:
    """A ``folder`` of masks for the originals.

    The mask of ``a/b.jpg`` is the file ``a/b.jpg.png`` or ``a/b.png`` in the folder, as large as the original. Its
    background is 0 and everything else is foreground, so that a picture with its background removed serves as well.
    """

    folder: Path

    def find(self, name: str) -> Path | None:
        """The mask of an original; None if there is none."""
        for candidate in (f"{name}.png", prepared_name(name, 1, 1)):
            path = self.folder / candidate
            if not is_below(path, self.folder):
                raise XrayError(f"The mask {path} lies outside of {self.folder}: move it there.")
            if os.path.isfile(path):  # noqa: PTH113  # Path.is_file() raises where the name is too long
                return path
        return None

    def mask_at(self, place: Place, shape: tuple[int, ...]) -> Mask | None:
        """Bring the mask of an original onto the picture (H, W) at hand; None if there is no mask."""
        path = self.find(place.name)
        if path is None:
            return None
        drawn = read_radiograph(path)
        if drawn.shape != place.shape:
            (height, width), (tall, wide) = place.shape, drawn.shape
            raise XrayError(
                f"{path} has {wide} x {tall} pixels, but {place.name} has {width} x {height}: draw it anew."
            )
        foreground = (drawn > 0).astype(np.uint8)
        moved = cv2.warpPerspective(foreground, place.matrix, (shape[1], shape[0]), flags=cv2.INTER_NEAREST)
        return np.asarray(moved > 0)

    def fingerprint(self, name: str) -> str:
        """SHA-256 of the mask of an original; empty if there is none."""
        path = self.find(name)
        if path is None:
            return ""
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise XrayError(f"{path} cannot be read: {error.strerror}.") from error
