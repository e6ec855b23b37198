"""Self-attention over the positions of a feature map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pad, scaled_dot_product_attention

from anomalib_xray.errors import XrayError


class SelfAttention(nn.Module):
    """Self-attention as in SAGAN: ``gamma * attention(x) + x`` with ``gamma`` starting at 0.

    Queries and keys are 1 x 1 convolutions to C/8 channels, values to C. PyTorch's fused attention is used, so the
    N x N matrix of a map with N positions never stands in memory; that kernel wants queries, keys and values of one
    width, which zero channels provide without changing the result.

    Source: Zhang et al. 2019, "Self-Attention Generative Adversarial Networks", section 3; their code also max-pools
    keys and values, here ``pooling=2``, which costs a quarter.

    Args:
        channels: Channels C of the feature map, at least 8.
        pooling: Keys and values are max-pooled by this factor; 1 = every position attends to every position.

    Raises:
        XrayError: Fewer than 8 channels, of which queries and keys would get none.

    >>> SelfAttention(16, pooling=2)(torch.zeros(1, 16, 8, 8)).shape
    torch.Size([1, 16, 8, 8])
    """

    def __init__(self, channels: int, pooling: int = 1) -> None:
        super().__init__()
        if channels < 8:
            msg = f"Self-attention has {channels} channels but needs at least 8; give the model a larger width."
            raise XrayError(msg)
        self.query = nn.Conv2d(channels, channels // 8, kernel_size=1)
        self.key = nn.Conv2d(channels, channels // 8, kernel_size=1)
        self.value = nn.Conv2d(channels, channels, kernel_size=1)
        self.gamma = nn.Parameter(torch.zeros(()))
        self.pooling = pooling

    def forward(self, features: Tensor) -> Tensor:
        """Adds to each position of ``(N, C, H, W)`` the values that it attends to."""
        query, key, value = self.query(features), self._pooled(self.key(features)), self._pooled(self.value(features))
        missing = value.shape[1] - query.shape[1]
        attended = scaled_dot_product_attention(
            pad(_positions(query), (0, missing)),
            pad(_positions(key), (0, missing)),
            _positions(value).contiguous(),  # the fused kernel takes nothing else
            scale=1.0,
        )
        attended = attended.squeeze(1).transpose(1, 2).reshape(features.shape)
        return self.gamma * attended + features

    def weights(self, features: Tensor) -> Tensor:
        """Computes the attention of each position to each key, for pictures: the whole matrix stands in memory.

        Args:
            features: ``(N, C, H, W)``.

        Returns:
            ``softmax(q k)``, rows sum to 1, ``(N, H * W, K)`` with the ``K = H / pooling * W / pooling`` keys row by
            row.
        """
        query, key = self.query(features), self._pooled(self.key(features))
        weights: Tensor = (query.flatten(2).transpose(1, 2) @ key.flatten(2)).softmax(dim=2)
        return weights

    def _pooled(self, features: Tensor) -> Tensor:
        """Keys or values, ``(N, C, H / pooling, W / pooling)``."""
        return max_pool2d(features, self.pooling) if self.pooling > 1 else features


def _positions(features: Tensor) -> Tensor:
    """Lays a feature map (N, C, H, W) out as one attention head, (N, 1, H * W, C)."""
    return features.flatten(2).transpose(1, 2).unsqueeze(1)
