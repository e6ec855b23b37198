"""Generator, critic and encoder of residual blocks.

Source: Gulrajani et al. 2017 (1704.00028), appendix on 64 x 64 residual networks, as used by Schlegl et al. 2019
(f-AnoGAN). Images are (-1, 1) here.
"""

from __future__ import annotations

from itertools import pairwise
from math import log2
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, conv_transpose2d

from anomalib_xray_plugins.dcgan.networks import Generator as PlainGenerator

SMALLEST = 4
"""Side of the smallest feature map."""

WIDEST = 8
"""Most channels of a level, in multiples of the first level's."""

Code = Literal["linear", "tanh"]

Blocks = Literal["residual", "plain"]
"""Residual blocks as published, or one convolution per level, which costs about a tenth."""

SLOPE = 0.2
"""Slope of leaky ReLU below 0 in plain levels."""


def level_channels(image_size: int, width: int) -> list[int]:
    """Channels of the feature maps from the image's side to 4 x 4; 64-128-256-512-512 at 64 pixels as published."""
    levels = int(log2(image_size // SMALLEST)) + 1
    return [width * min(2**level, WIDEST) for level in range(levels)]


class PooledConv2d(nn.Conv2d):
    """3 x 3 convolution and 2 x 2 mean pooling, ``(N, C, H, W)`` to ``(N, C', H / 2, W / 2)``.

    Computed as one convolution of stride 2, whose 4 x 4 kernel is the mean of the four shifted ones: 16 products of a
    pixel of the result instead of 36, and no map of full size in memory.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Convolves and pools."""
        return conv2d(features, avg_pool2d(self.weight, 2, 1, 1), self.bias, 2, 1)


class UpsampledConv2d(nn.Conv2d):
    """Nearest upsampling by 2 and 3 x 3 convolution, ``(N, C, H, W)`` to ``(N, C', 2 H, 2 W)``.

    Computed as one transposed convolution, whose 4 x 4 kernel is the sum of the four shifted ones: 4 products for a
    pixel of the result instead of 9.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Upsamples and convolves."""
        kernel = 4 * avg_pool2d(self.weight, 2, 1, 1).flip(2, 3)
        return conv_transpose2d(features, kernel.transpose(0, 1), self.bias, 2, 1)


class DownBlock(nn.Module):
    """Residual block that halves the side, ``(N, C, H, W)`` to ``(N, C', H / 2, W / 2)``.

    Layer normalisation and not batch normalisation: the gradient penalty looks at each image on its own.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1))
        self.residual = nn.Sequential(
            nn.GroupNorm(1, inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, inputs, 3, padding=1),
            nn.GroupNorm(1, inputs),
            nn.ReLU(),
            PooledConv2d(inputs, outputs),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Adds residual and shortcut."""
        found: Tensor = self.shortcut(features) + self.residual(features)
        return found


class UpBlock(nn.Module):
    """Residual block that doubles the side, ``(N, C, H, W)`` to ``(N, C', 2 H, 2 W)``, with batch normalisation."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1), nn.Upsample(scale_factor=2))
        self.residual = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Identity(),  # the place of an upsampling in checkpoints
            UpsampledConv2d(inputs, outputs),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Adds residual and shortcut."""
        found: Tensor = self.shortcut(features) + self.residual(features)
        return found


def plain_down(inputs: int, outputs: int) -> nn.Module:
    """Level that halves the side, with layer normalisation unless it sees the image itself."""
    norm = nn.GroupNorm(1, outputs) if inputs > 1 else nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 4, 2, 1), norm, nn.LeakyReLU(SLOPE))


class Trunk(nn.Sequential):
    """Downward path of critic and encoder, ``(N, 1, S, S)`` to ``(N, F)``.

    Plain blocks are 4 x 4 convolutions of stride 2.
    """

    def __init__(self, image_size: int, width: int, blocks: Blocks = "residual") -> None:
        channels = level_channels(image_size, width)
        if blocks == "plain":
            channels = channels[:-1]
            levels = [plain_down(inputs, outputs) for inputs, outputs in pairwise([1, *channels])]
        else:
            levels = [nn.Conv2d(1, channels[0], 3, padding=1)]
            levels += [DownBlock(inputs, outputs) for inputs, outputs in pairwise(channels)]
        super().__init__(*levels, nn.Flatten())
        self.size = channels[-1] * SMALLEST**2
        """Number F of features."""


class Generator(nn.Module):
    """Code ``(N, Z)`` to image ``(N, 1, S, S)`` in (-1, 1)."""

    def __init__(self, image_size: int, width: int, latent_size: int) -> None:
        super().__init__()
        channels = level_channels(image_size, width)[::-1]
        self.layers = nn.Sequential(
            nn.Linear(latent_size, channels[0] * SMALLEST**2),
            nn.Unflatten(1, (channels[0], SMALLEST, SMALLEST)),
            *(UpBlock(inputs, outputs) for inputs, outputs in pairwise(channels)),
            nn.BatchNorm2d(channels[-1]),
            nn.ReLU(),
            nn.Conv2d(channels[-1], 1, 3, padding=1),
            nn.Tanh(),
        )

    def forward(self, code: Tensor) -> Tensor:
        """Generates images."""
        image: Tensor = self.layers(code)
        return image


def make_generator(image_size: int, width: int, latent_size: int, blocks: Blocks) -> nn.Module:
    """Generator of residual blocks, or the plain one of the DCGAN with batch normalisation."""
    if blocks == "plain":
        return PlainGenerator(image_size, width, latent_size, norm="batch", spectral=False)
    return Generator(image_size, width, latent_size)


class Critic(nn.Module):
    """Tells real images from generated ones."""

    def __init__(self, image_size: int, width: int, blocks: Blocks = "residual") -> None:
        super().__init__()
        self.trunk = Trunk(image_size, width, blocks)
        self.head = nn.Linear(self.trunk.size, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Judges images ``(N, 1, S, S)``: logits, higher = more real, ``(N,)``."""
        return self.judge(self.features(image))

    def features(self, image: Tensor) -> Tensor:
        """The features before the last layer, ``(N, F)``."""
        found: Tensor = self.trunk(image)
        return found

    def judge(self, features: Tensor) -> Tensor:
        """Logits ``(N,)`` of the features ``(N, F)``."""
        logits: Tensor = self.head(features).flatten()
        return logits


class Encoder(nn.Module):
    """Image ``(N, 1, S, S)`` to code ``(N, Z)``.

    ``linear`` codes are unbounded, as those that the generator is trained on; ``tanh`` ones in (-1, 1), as published.
    """

    def __init__(
        self, image_size: int, width: int, latent_size: int, latent: Code = "linear", blocks: Blocks = "residual"
    ) -> None:
        super().__init__()
        trunk = Trunk(image_size, width, blocks)
        self.layers = nn.Sequential(
            trunk, nn.Linear(trunk.size, latent_size), nn.Tanh() if latent == "tanh" else nn.Identity()
        )

    def forward(self, image: Tensor) -> Tensor:
        """Encodes images."""
        code: Tensor = self.layers(image)
        return code
