"""Convolutional blocks that self-attentive GANs share: the way down to 4 x 4 and the way up from a code.

Source: Zhang et al. 2019 (SAGAN); arXiv 2001.10883, section 3 and its appendix tables of BiGAN and α-GAN. Images are
(-1, 1) here.
"""

from __future__ import annotations

from math import log2

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from anomalib_xray.networks.attention import SelfAttention
from anomalib_xray.networks.layers import ProductConv2d, ProductConvTranspose2d, SpectralNorm

SMALLEST = 4
"""Side of the smallest feature map."""

LARGEST_ATTENTION = 64
"""Side of the largest feature map of the generator with self-attention; 128 would cost 16 times as much."""

WIDEST = 16
"""Most channels of a level, in multiples of the first level's."""

SLOPE = 0.1
"""Slope of leaky ReLU below 0."""


def level_channels(image_size: int, width: int) -> list[int]:
    """Channels of the feature maps from half the image's side down to 4 x 4; 64 ... 1024 at 128 pixels as published."""
    levels = int(log2(image_size // SMALLEST))
    return [width * min(2**level, WIDEST) for level in range(levels)]


def maybe_spectral(layer: nn.Module, spectral: bool) -> nn.Module:
    """The layer with spectral normalisation (Miyato et al. 2018), or as it is."""
    if not spectral:
        return layer
    weight: Tensor = layer.weight  # type: ignore[assignment]  # a module's attributes are untyped
    norm = SpectralNorm(weight, dim=int(isinstance(layer, nn.ConvTranspose2d)))
    return register_parametrization(layer, "weight", norm)


def to_tanh_range(image: Tensor) -> Tensor:
    """[0, 1] to the generator's [-1, 1]."""
    return 2 * image - 1


def to_unit_range(image: Tensor) -> Tensor:
    """The generator's [-1, 1] to [0, 1]."""
    return (image + 1) / 2


class Trunk(nn.Module):
    """Downward path of encoders and discriminators, ``(N, 1, S, S)`` to ``(N, C, 4, 4)``.

    4 x 4 convolutions of stride 2 and leaky ReLU; self-attention on the last two levels.

    Args:
        image_size: Side S of the images.
        width: Channels of the first level.
        attention: Whether there is self-attention.
        pooling: Pooling of keys and values in self-attention.
        spectral: Whether convolutions are spectrally normalised.

    >>> import torch
    >>> Trunk(image_size=16, width=8)(torch.zeros(1, 1, 16, 16)).shape
    torch.Size([1, 16, 4, 4])
    """

    def __init__(
        self, image_size: int, width: int, attention: bool = True, pooling: int = 2, spectral: bool = True
    ) -> None:
        super().__init__()
        channels = level_channels(image_size, width)
        self.channels = channels[-1]
        self.levels = nn.ModuleList()
        for level, (inputs, outputs) in enumerate(zip([1, *channels], channels, strict=False)):
            layers = [
                maybe_spectral(self._convolution(inputs, outputs, image_size // 2 ** (level + 1)), spectral),
                nn.LeakyReLU(SLOPE, inplace=True),
            ]
            if attention and level >= len(channels) - 2:
                layers.append(SelfAttention(outputs, pooling))
            self.levels.append(nn.Sequential(*layers))

    @staticmethod
    def _convolution(inputs: int, outputs: int, side: int) -> nn.Module:
        """Convolution to a map of this side; those of large maps run faster with channels last."""
        if side <= SMALLEST:
            return ProductConv2d(inputs, outputs, 4, 2, 1)
        return nn.Conv2d(inputs, outputs, 4, 2, 1).to(memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> Tensor:
        """The features of the last level, ``(N, C, 4, 4)``."""
        return self.features(image)[-1]

    def features(self, image: Tensor, levels: int | None = None) -> list[Tensor]:
        """The features of the first levels, of all if left out: ``(N, width, S / 2, S / 2)`` to ``(N, C, 4, 4)``."""
        found = []
        for level in self.levels[:levels]:
            image = level(image)
            found.append(image)
        return found


class Generator(nn.Module):
    """Code to image: 4 x 4 transposed convolutions with batch normalisation and ReLU.

    Self-attention stands on the two largest levels up to 64 x 64.

    Args:
        image_size: Side S of the images.
        width: Channels of the level before the last.
        latent_size: Length Z of the code.
        attention: Whether there is self-attention.
        pooling: Pooling of keys and values in self-attention.
        spectral: Whether convolutions, the last one excepted, are spectrally normalised.

    >>> import torch
    >>> Generator(image_size=16, width=8, latent_size=4)(torch.zeros(1, 4)).shape
    torch.Size([1, 1, 16, 16])
    """

    def __init__(
        self,
        image_size: int,
        width: int,
        latent_size: int,
        attention: bool = True,
        pooling: int = 2,
        spectral: bool = True,
    ) -> None:
        super().__init__()
        channels = level_channels(image_size, width)[::-1]
        largest = min(image_size // 2, LARGEST_ATTENTION)
        layers: list[nn.Module] = []
        for level, (inputs, outputs) in enumerate(zip([latent_size, *channels], channels, strict=False)):
            layers += [
                maybe_spectral(self._convolution(inputs, outputs, level), spectral),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            if attention and SMALLEST * 2**level in (largest // 2, largest):
                layers.append(SelfAttention(outputs, pooling))
        self.joint = 1 + max(index for index, layer in enumerate(layers) if isinstance(layer, nn.BatchNorm2d))
        """Number of layers up to the last one that mixes the images of a batch."""
        self.layers = nn.Sequential(*layers, nn.ConvTranspose2d(channels[-1], 1, 4, 2, 1), nn.Tanh())

    @staticmethod
    def _convolution(inputs: int, outputs: int, level: int) -> nn.Module:
        """Transposed convolution of a code, of 4 x 4 places, and of larger maps."""
        if level <= 1:
            return ProductConvTranspose2d(inputs, outputs, 4, *((2, 1) if level else (1, 0)))
        return nn.ConvTranspose2d(inputs, outputs, 4, 2, 1).to(memory_format=torch.channels_last)

    def forward(self, code: Tensor, wanted: int | None = None) -> Tensor:
        """Generates ``(N, 1, S, S)`` in (-1, 1) from ``(N, Z)``.

        With ``wanted`` only that many first images; the other codes count in the batch statistics and cost no more.
        """
        image = code[:, :, None, None]
        for number, layer in enumerate(self.layers):
            image = layer(image[:wanted] if number == self.joint else image)
        return image
