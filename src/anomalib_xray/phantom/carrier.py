"""The tilted image carrier: the plate's picture as a turned rectangle on black surroundings."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.phantom.attenuation import Mask


@dataclasses.dataclass(frozen=True)
class Carrier:
    """A turned and shrunk plate.

    Attributes:
        matrix: Affine map (2, 3) from plate pixels to picture pixels.
        surroundings: Grey level around the plate.
        edge: Grey level of the plate's edge line; None for none.
    """

    matrix: NDArray[np.float64]
    surroundings: int
    edge: int | None

    def corners(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """The plate's corners (4, 2) on the picture, clockwise from its top left one."""
        height, width = shape[:2]
        return self.points(np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], float))

    def points(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Plate points (K, 2) on the picture."""
        moved: NDArray[np.float64] = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        return moved

    def picture(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The plate's picture (H, W) on its surroundings."""
        height, width = image.shape
        moved = cv2.warpAffine(
            image,
            self.matrix,
            (width, height),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=self.surroundings,
        )
        if self.edge is not None:
            outline = np.round(self.corners(image.shape) * 16).astype(np.int32)
            cv2.polylines(moved, [outline], True, self.edge, 1, cv2.LINE_AA, 4)
        return np.asarray(moved, np.uint8)

    def mask(self, mask: Mask) -> Mask:
        """A plate mask (H, W) on the picture."""
        height, width = mask.shape
        return np.asarray(
            cv2.warpAffine(mask.astype(np.uint8), self.matrix, (width, height), flags=cv2.INTER_NEAREST) > 0
        )


def sample_carrier(shape: tuple[int, int], rng: np.random.Generator) -> Carrier:
    """A carrier drawn at random for a picture of shape (H, W): turned by up to 14 degrees, whole inside the picture."""
    height, width = shape
    degrees = float(rng.uniform(2, 14) * rng.choice([-1, 1]))
    sine, cosine = abs(np.sin(np.deg2rad(degrees))), np.cos(np.deg2rad(degrees))
    largest = min(width / (width * cosine + height * sine), height / (height * cosine + width * sine))
    matrix = cv2.getRotationMatrix2D(
        ((width - 1) / 2, (height - 1) / 2), degrees, largest * float(rng.uniform(0.9, 0.99))
    )
    return Carrier(
        matrix=np.asarray(matrix, np.float64),
        surroundings=int(rng.integers(0, 4)),
        edge=int(rng.integers(90, 240)) if rng.random() < 0.5 else None,
    )
