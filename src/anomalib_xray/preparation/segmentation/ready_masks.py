"""Masks that somebody drew already, for example with an image editor."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import is_below
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.preparation.sources import prepared_name
from anomalib_xray.preparation.step import Mask, Place


@dataclass(frozen=True)
class ReadyMasks:
    """A folder of masks for the originals.

    The mask of ``a/b.jpg`` is the file ``a/b.jpg.png`` or ``a/b.png`` in the folder, as large as the original. Its
    background is 0 and everything else is foreground, so that a picture with its background removed serves as well.

    Attributes:
        folder: The folder.
    """

    folder: Path

    def find(self, name: str) -> Path | None:
        """Looks for the mask of an original.

        Args:
            name: Path of the original below its root, with forward slashes.

        Returns:
            The file; None if there is none.

        Raises:
            XrayError: The name leads out of the folder.
        """
        for candidate in (f"{name}.png", prepared_name(name, 1, 1)):
            path = self.folder / candidate
            if not is_below(path, self.folder):
                raise XrayError(f"The mask {path} lies outside of {self.folder}: move it there.")
            if os.path.isfile(path):  # noqa: PTH113  # Path.is_file() raises where the name is too long
                return path
        return None

    def mask_at(self, place: Place, shape: tuple[int, ...]) -> Mask | None:
        """Brings the mask of an original onto the picture at hand.

        Args:
            place: Where the picture comes from.
            shape: Height and width of the picture.

        Returns:
            (H, W); None if there is no mask.

        Raises:
            XrayError: The mask cannot be read, is of another size than the original, or lies outside of the folder.
        """
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
        """SHA-256 of the mask of an original; empty if there is none.

        Args:
            name: Path of the original below its root, with forward slashes.

        Raises:
            XrayError: The mask cannot be read or lies outside of the folder.
        """
        path = self.find(name)
        if path is None:
            return ""
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise XrayError(f"{path} cannot be read: {error.strerror}.") from error
