"""Base class of the detectors, which are fitted once, to a sample of vectors, and then score in torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from anomalib.models.components import DynamicBufferMixin
from numpy.typing import NDArray
from torch import Tensor, nn

from anomalib_xray.errors import XrayError


class Fitted(DynamicBufferMixin, nn.Module):
    """A module that is fitted to vectors and keeps the result in buffers, whose shape fitting or loading decides.

    Args:
        buffers: Names of the buffers.
    """

    def __init__(self, *buffers: str) -> None:
        super().__init__()
        self._first = buffers[0]
        for name in buffers:
            self.register_buffer(name, torch.empty(0))

    @property
    def is_fitted(self) -> bool:
        """Whether the buffers are filled."""
        return self.get_tensor_attribute(self._first).numel() > 0

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Fits to the vectors of normal images, ``(N, D)``; an earlier fit is forgotten.

        Raises:
            XrayError: There is nothing to fit to, or some of it is not finite.
        """
        if features.ndim != 2 or not features.numel():
            raise XrayError(
                f"Detectors are fitted to vectors of shape (N, D), but got {tuple(features.shape)}: train on images."
            )
        if not features.isfinite().all():
            raise XrayError("Some features of the training images are not finite: the encoder's weights are damaged.")
        for name, values in self._fit(features.detach().cpu().double().numpy()).items():
            buffer = self.get_tensor_attribute(name)
            # Contiguous, as a loaded buffer is: products of differently laid out matrices differ in their last bits.
            contents = torch.from_numpy(np.array(values, dtype=np.float64, order="C"))
            setattr(self, name, contents.to(buffer))

    @abstractmethod
    def _fit(self, features: NDArray[np.float64]) -> Mapping[str, Any]:
        """Fits to ``(N, D)`` and returns the contents of all buffers by name."""


class Detector(Fitted):
    """Scores the difference of a vector from the vectors of normal images; 0 before it is fitted."""

    def forward(self, features: Tensor) -> Tensor:
        """Scores vectors ``(N, D)``, higher = more anomalous, ``(N,)``."""
        return self._score(features) if self.is_fitted else features.new_zeros(features.shape[:1])

    @abstractmethod
    def _score(self, features: Tensor) -> Tensor:
        """Scores ``(N, D)``, fitted."""


class Reservoir:
    """Keeps a random choice out of rows that come one batch after the other, each with the same chance.

    Source: Vitter 1985, "Random sampling with a reservoir", algorithm R.

    Args:
        limit: Largest number of rows that are kept.
        seed: Decides which.

    Example:
        >>> reservoir = Reservoir(limit=5)
        >>> reservoir.add(torch.rand(100, 8))
        >>> reservoir.rows().shape
        torch.Size([5, 8])
    """

    def __init__(self, limit: int, seed: int = 0) -> None:
        self.limit = limit
        self.seen = 0
        self._rows: list[Tensor] = []
        self._generator = torch.Generator().manual_seed(seed)

    def add(self, rows: Tensor) -> None:
        """Draws among further rows, ``(N, D)``; those kept are moved to the CPU."""
        for row in rows.detach().cpu():
            if len(self._rows) < self.limit:
                self._rows.append(row.clone())
            else:
                place = int(torch.randint(self.seen + 1, (1,), generator=self._generator))
                if place < self.limit:
                    self._rows[place] = row.clone()
            self.seen += 1

    def rows(self) -> Tensor:
        """The rows that are kept, ``(M, D)`` with M at most the limit; ``(0, 0)`` if none was seen."""
        return torch.stack(self._rows) if self._rows else torch.empty(0, 0)
