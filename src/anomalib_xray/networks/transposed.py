"""A transposed convolution of few places, which costs a training step less than torch's."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import fold


class ProductConvTranspose2d(nn.ConvTranspose2d):
    """Transposed convolution of a map with few places: in training a product of matrices.

    Torch's convolution lays all weights out anew in each pass, which takes several times as long as the product where
    weights are many and places few. Weights and results are those of the parent, which evaluation and an exported graph
    compute.

    >>> import torch
    >>> layer = ProductConvTranspose2d(8, 3, kernel_size=4, stride=2)
    >>> features = torch.rand(2, 8, 2, 2)
    >>> torch.allclose(layer(features), layer.eval()(features), atol=1e-6)
    True
    """

    def forward(self, features: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Features ``(N, C, h, w)`` to ``(N, D, H, W)``."""
        if not self.training or output_size is not None:
            return super().forward(features, output_size)
        pieces = features.flatten(2).transpose(1, 2) @ self.weight.flatten(1)
        sides = zip(features.shape[2:], self.stride, self.kernel_size, strict=True)
        size = [(side - 1) * stride - 2 * int(self.padding[0]) + kernel for side, stride, kernel in sides]
        made = fold(pieces.transpose(1, 2), size, self.kernel_size, padding=self.padding, stride=self.stride)  # type: ignore[arg-type]  # numbers
        return made if self.bias is None else made + self.bias[:, None, None]
