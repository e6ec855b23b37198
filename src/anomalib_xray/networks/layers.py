"""Layers of adversarial networks that cost a training step less than torch's and compute the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import fold, linear, normalize, unfold
from torch.nn.utils.parametrizations import _SpectralNorm


class ProductConv2d(nn.Conv2d):
    """Convolution to few positions: in training a product of matrices.

    Torch's convolution lays out all weights anew in each pass, which costs more than the arithmetic where a large
    kernel meets a map of 4 x 4 or less. Weights and results are those of ``nn.Conv2d``.

    >>> layer = ProductConv2d(2, 3, kernel_size=4)
    >>> image = torch.rand(1, 2, 4, 4)
    >>> torch.allclose(layer(image), layer.eval()(image), atol=1e-6)
    True
    """

    def forward(self, features: Tensor) -> Tensor:
        """Convolves ``(N, C, H, W)``."""
        if not self.training:  # an exported model keeps the convolution
            return super().forward(features)
        rows = unfold(features, self.kernel_size, self.dilation, self.padding, self.stride).transpose(1, 2)  # type: ignore[arg-type]  # never "same"
        made = linear(rows.flatten(0, 1), self.weight.flatten(1), self.bias)
        height = (features.shape[2] + 2 * int(self.padding[0]) - self.kernel_size[0]) // self.stride[0] + 1
        return made.view(len(features), height, -1, self.out_channels).permute(0, 3, 1, 2)


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


class SpectralNorm(_SpectralNorm):
    """Spectral normalisation (Miyato et al. 2018) with torch's buffers, numbers and one power iteration in each pass.

    Torch's passes ten times over the weights for their gradient, which costs more than the products where weights are
    many; here the derivative is written out, and weights are read in the order in which they lie in memory.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """Divides a weight by its largest singular value."""
        if not self.training:  # without a gradient most of the time, and to be exported
            divided: Tensor = super().forward(weight)
            return divided
        inputs = [axis for axis in range(weight.dim()) if axis != self.dim]
        lying = sorted(inputs, key=weight.stride, reverse=True)
        order = (self.dim, *lying)
        with torch.no_grad():
            matrix = weight.permute(order).flatten(1)
            stored = self._v.view([weight.shape[axis] for axis in inputs]).permute([inputs.index(a) for a in lying])
            left = normalize(matrix.mv(stored.flatten()), dim=0, eps=self.eps)
            right = normalize(matrix.t().mv(left), dim=0, eps=self.eps)
            self._u.copy_(left)
            stored.copy_(right.view_as(stored))
            sigma = left.dot(matrix.mv(right))
        divided, _ = _Normalised.apply(weight, sigma, left, right, order)
        return divided


class _Normalised(torch.autograd.Function):
    """A weight over ``sigma = u' W v``, and ``sigma``, both differentiable any number of times in the weight.

    With the matrix ``W`` of the axes in the given order, the derivative is ``(g - <g, W / sigma> u v') / sigma``.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, sigma: Tensor, left: Tensor, right: Tensor, order: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        """Divides."""
        divided, sigma = weight / sigma, sigma.clone()
        ctx.order = order
        ctx.save_for_backward(divided, sigma, left, right)
        return divided, sigma

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, of_sigma: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Differentiates."""
        divided, sigma, left, right = ctx.saved_tensors
        lying = sorted(range(gradient.dim()), key=divided.stride, reverse=True)
        along = gradient.permute(lying).flatten().dot(divided.permute(lying).flatten())
        found = (gradient / sigma).permute(ctx.order)
        rows = ((of_sigma - along / sigma) * left).view(-1, *[1] * (found.dim() - 1))
        found = found.addcmul_(rows, right.view(found.shape[1:]))
        back = sorted(range(found.dim()), key=ctx.order.__getitem__)
        return found.permute(back), None, None, None, None
