"""A dictionary of normal images, how it reconstructs, and detectors of unusual codes."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from anomalib_xray.detectors import DetectorBank
from anomalib_xray.scores import ReconstructionScorer, ScoredBatch, foreground
from anomalib_xray_plugins.nmf.dictionary import Dictionary


def shrunk(image: Tensor, resolution: int) -> Tensor:
    """Averages an image's pixels, ``(N, 1, S, S)`` to ``(N, 1, R, R)``; S is a multiple of R."""
    return avg_pool2d(image, image.shape[-1] // resolution)


def enlarged(small: Tensor, image: Tensor) -> Tensor:
    """Interpolates ``(N, 1, R, R)`` to the size of an image, ``(N, 1, S, S)``."""
    factor = image.shape[-1] // small.shape[-1]
    return small if factor == 1 else interpolate(small, scale_factor=factor, mode="bilinear")


class NmfModel(nn.Module):
    """Reconstructs images from the parts of normal ones.

    Args:
        resolution: Side R of the images that are factorised; image sizes are multiples of it.
        dictionary: Finds parts and codes.
        detectors: Scores codes.
        scorer: Computes scores and map.
    """

    def __init__(
        self, resolution: int, dictionary: Dictionary, detectors: DetectorBank, scorer: ReconstructionScorer
    ) -> None:
        super().__init__()
        self.resolution = resolution
        self.dictionary = dictionary
        self.detectors = detectors
        self.scorer = scorer

    def vectors(self, image: Tensor) -> Tensor:
        """Pixels that are factorised, ``(N, 1, S, S)`` to ``(N, R * R)``."""
        return shrunk(image, self.resolution).flatten(1)

    def fit(self, vectors: Tensor) -> None:
        """Fits the dictionary, then the detectors to the codes.

        Args:
            vectors: Pixels of normal images, ``(N, R * R)``.
        """
        self.dictionary.fit(vectors)
        self.detectors.fit(self.dictionary.encode(vectors.to(self.dictionary.parts)))

    def forward(self, batch: Tensor) -> ScoredBatch:
        """Scores images.

        Image and reconstruction are compared at the resolution of the dictionary: what it cannot show is no error.

        Args:
            batch: Pre-processed images with equal channels, ``(N, 3, S, S)`` in [0, 1].

        Returns:
            Scores and map.
        """
        image = batch.mean(1, keepdim=True)
        code = self.dictionary.encode(self.vectors(image))
        blurred = enlarged(shrunk(image, self.resolution), image) * foreground(image)
        scored: ScoredBatch = self.scorer(blurred, self._image_of(code, image), self.reconstruct, self.detectors(code))
        return scored

    def reconstruct(self, image: Tensor) -> Tensor:
        """Encodes and decodes, ``(N, 1, S, S)`` in [0, 1] to the same."""
        return self._image_of(self.dictionary.encode(self.vectors(image)), image)

    def _image_of(self, code: Tensor, image: Tensor) -> Tensor:
        """Reconstruction ``(N, 1, S, S)`` in [0, 1] of a code ``(N, K)``; black before the dictionary is fitted."""
        pixels = self.dictionary.decode(code)
        side = self.resolution if self.dictionary.is_fitted else 1
        return enlarged(pixels.clamp(0, 1).reshape(-1, 1, side, side), image)
