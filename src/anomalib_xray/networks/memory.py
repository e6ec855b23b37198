"""Memory of normal codes.

Source: Gong et al. 2019, "Memorizing normality to detect anomaly" (1904.02639), sections 3.2 and 3.3; with the dot
product as addressing Cai et al. 2022 (2206.03935).
"""

from __future__ import annotations

import logging
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from anomalib_xray.errors import XrayError

Addressing = Literal["dot", "cosine"]

logger = logging.getLogger(__name__)

TINY = 1e-12


class Memory(nn.Module):
    """Replaces a code by a mean of learnt items, weighted by their likeness to the code.

    A decoder behind it sees mixtures of normal codes only, so that it cannot reconstruct what is not like them.

    Args:
        items: Number of items M (25 in 2206.03935).
        size: Length Z of a code.
        addressing: Similarity of code and item: the ``dot`` product (2206.03935) or the ``cosine`` (1904.02639).
        shrink: Weights up to this are set to 0 and the others scaled up, so that few items take part; 0 for none as in
            2206.03935. With ``dot`` less than 1 (1904.02639: 1/M to 3/M); a code all of whose weights are small becomes
            0, which is logged once. With ``cosine`` less than 1/M: similarities within [-1, 1] keep the weights close
            to 1/M, so that a higher threshold can take all of them.

    Raises:
        XrayError: There are no items, or the threshold is out of its range.

    >>> code, weights = Memory(items=5, size=4)(torch.zeros(1, 4))
    >>> code.shape, weights
    (torch.Size([1, 4]), tensor([[0.2000, 0.2000, 0.2000, 0.2000, 0.2000]], grad_fn=<SoftmaxBackward0>))
    """

    def __init__(self, items: int = 25, size: int = 16, addressing: Addressing = "dot", shrink: float = 0.0) -> None:
        super().__init__()
        if items < 1:
            msg = f"memory_items is {items}, but a memory has at least 1 item; take for example 25."
            raise XrayError(msg)
        limit = 1 / items if addressing == "cosine" else 1.0
        if not 0 <= shrink < limit:
            msg = (
                f"memory_shrink is {shrink:g}, but with {addressing} addressing of {items} items it is a weight of at "
                f"least 0 (off) and less than {limit:g}: from there on it can take all weights of a code."
            )
            raise XrayError(msg)
        self.items = nn.Parameter(torch.empty(items, size).uniform_(-(size**-0.5), size**-0.5))
        self.addressing = addressing
        self.shrink = shrink
        self._told = False

    def forward(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """The codes that the memory gives instead of ``(N, Z)``, and the items' weights, at least 0, ``(N, M)``."""
        if self.addressing == "cosine":
            likeness = normalize(code, dim=1) @ normalize(self.items, dim=1).T
        else:
            likeness = code @ self.items.T
        weights = likeness.softmax(1)
        if self.shrink > 0:
            weights = hard_shrink(weights, self.shrink)
            if not self._told and not torch.compiler.is_compiling():
                self._tell_of_lost_codes(weights)
        return weights @ self.items, weights

    def _tell_of_lost_codes(self, weights: Tensor) -> None:
        lost = int((weights.amax(1) == 0).sum())
        if lost:
            self._told = True
            logger.warning(
                "memory_shrink (%g) leaves %d of %d codes no item of the memory: they are decoded from zeros. Lower it "
                "if this goes on.", self.shrink, lost, len(weights),
            )  # fmt: skip


def hard_shrink(weights: Tensor, threshold: float) -> Tensor:
    """Sets small weights to 0 and scales the others to the sum of 1, differentiably (1904.02639, equations 6 and 7).

    Weights are ``(N, M)``, at least 0; small are those up to the threshold. A row of small weights only becomes 0.

    >>> hard_shrink(torch.tensor([[0.6, 0.3, 0.1]]), 0.2)
    tensor([[0.6667, 0.3333, 0.0000]])
    """
    above = weights - threshold
    kept = above.relu() * weights / (above.abs() + TINY)
    return kept / kept.sum(1, keepdim=True).clamp(min=TINY)


def memory_entropy(weights: Tensor) -> Tensor:
    """Mean entropy of the addressing, in nats: small where few items make a code (1904.02639, equation 9)."""
    return -(weights * (weights + TINY).log()).sum(1).mean()
