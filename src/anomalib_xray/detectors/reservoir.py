"""A fair sample of a stream."""

from __future__ import annotations

import torch
from torch import Tensor


class Reservoir:
    """Keeps a random choice out of rows that come one batch after the other, each with the same chance.

    Source: Vitter 1985, "Random sampling with a reservoir", algorithm R.

    Args:
        limit: Largest number of rows that are kept.
        seed: Decides which.
    """

    def __init__(self, limit: int, seed: int = 0) -> None:
        self.limit = limit
        self.seen = 0
        self._rows: list[Tensor] = []
        self._generator = torch.Generator().manual_seed(seed)

    def add(self, rows: Tensor) -> None:
        """Sees further rows, ``(N, D)``; those kept are moved to the CPU."""
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
