"""The deep support vector data description as one module: network, centre and radius.

No layer has a bias and no activation is bounded: otherwise a network could map every image to the centre by its biases
alone (Ruff et al. 2018, propositions 2 and 3). Batch normalisation has no learnt shift for the same reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from math import log2

import torch
from torch import Tensor, nn

from anomalib_xray.networks.frozen_backbone import FrozenBackbone
from anomalib_xray.scores import ScoredBatch
from anomalib_xray_plugins.deep_svdd.loss import away_from_0, squared_distance

SMALLEST = 4
"""Side of the smallest feature map."""

WIDEST = 4
"""Most channels of a level, in multiples of the first level's."""

SLOPE = 0.1
"""Slope of leaky ReLU below 0."""


def level_channels(image_size: int, width: int) -> list[int]:
    """Channels of the levels, each of which halves the side, down to 4 x 4; 32-64-128 at 32 pixels as published."""
    return [width * min(2**level, WIDEST) for level in range(int(log2(image_size // SMALLEST)))]


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """5 x 5 convolution, batch normalisation and leaky ReLU, ``(N, C, H, W)`` to ``(N, C', H, W)``."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 5, padding=2, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-4, affine=False),
        nn.LeakyReLU(SLOPE, inplace=True),
    )


class Encoder(nn.Sequential):
    """LeNet-like network, ``(N, 1, S, S)`` in [0, 1] to codes ``(N, Z)``; S is a power of two from 8."""

    def __init__(self, image_size: int, width: int, code_size: int) -> None:
        channels = [1, *level_channels(image_size, width)]
        levels = [nn.Sequential(convolution(*pair), nn.MaxPool2d(2)) for pair in pairwise(channels)]
        super().__init__(*levels, nn.Flatten(), nn.Linear(SMALLEST**2 * channels[-1], code_size, bias=False))


class Decoder(nn.Sequential):
    """The encoder's mirror image, for pre-training: codes ``(N, Z)`` to images ``(N, 1, S, S)`` in [0, 1]."""

    def __init__(self, image_size: int, width: int, code_size: int) -> None:
        channels = level_channels(image_size, width)[::-1]
        levels = [
            nn.Sequential(nn.Upsample(scale_factor=2), convolution(*pair)) for pair in pairwise([*channels, width])
        ]
        super().__init__(
            nn.Linear(code_size, SMALLEST**2 * channels[0], bias=False),
            nn.Unflatten(1, (channels[0], SMALLEST, SMALLEST)),
            *levels,
            nn.Conv2d(width, 1, 5, padding=2, bias=False),
            nn.Sigmoid(),
        )


class BackboneEncoder(nn.Module):
    """A frozen backbone and a small head that alone is trained, ``(N, 1, S, S)`` in [0, 1] to codes ``(N, Z)``.

    The backbone's features are standardised by their mean and deviation over the training images. The head has no
    biases, and standardised features have no constant part that could stand in for one.

    Args:
        name: A convolutional network or vision transformer of timm.
        layer: Which of its feature maps is pooled.
        code_size: Length Z of the code.
        image_size: Side of the images.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, name: str, layer: int, code_size: int, image_size: int = 224) -> None:
        super().__init__()
        self.backbone = FrozenBackbone(name, [layer], image_size)
        features = self.backbone.channels[-1]
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.head = nn.Sequential(
            nn.Linear(features, features, bias=False),
            nn.LeakyReLU(SLOPE, inplace=True),
            nn.Linear(features, code_size, bias=False),
        )

    @torch.no_grad()
    def standardise(self, images: Iterable[Tensor]) -> None:
        """Takes mean and deviation of the features of training images, in batches ``(N, 1, S, S)`` in [0, 1]."""
        features = torch.cat([self.backbone.pooled(image) for image in images])
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0, correction=0).clamp(min=1e-6))

    def forward(self, image: Tensor) -> Tensor:
        """Gives the codes, ``(N, Z)``."""
        code: Tensor = self.head((self.backbone.pooled(image) - self.mean) / self.deviation)
        return code


SCORES = ("svdd",)
"""Scores that the model can compute."""


class DeepSvddModel(nn.Module):
    """A network that draws the codes of normal images together around a fixed centre.

    The arguments are settings of ``DeepSvdd``; with ``decodes`` there is a decoder for pre-training.

    Attributes:
        center: The centre c, ``(Z,)``.
        radius: The radius R of a soft boundary, a scalar.
        has_center: Whether the centre was set.
    """

    center: Tensor
    radius: Tensor
    has_center: Tensor

    def __init__(
        self,
        image_size: int = 128,
        width: int = 32,
        code_size: int = 128,
        decodes: bool = False,
        backbone: str | None = None,
        backbone_layer: int = 3,
        score: str = "svdd",
    ) -> None:
        super().__init__()
        self.encoder: Encoder | BackboneEncoder = (
            Encoder(image_size, width, code_size)
            if backbone is None
            else BackboneEncoder(backbone, backbone_layer, code_size, image_size)
        )
        self.decoder = Decoder(image_size, width, code_size) if decodes else None
        self.score = score
        self.register_buffer("center", torch.zeros(code_size))
        self.register_buffer("radius", torch.zeros(()))
        self.register_buffer("has_center", torch.tensor(False))

    @torch.no_grad()
    def set_center(self, images: Callable[[], Iterable[Tensor]]) -> None:
        """Sets the centre, once for all, to the mean code of the training images (section 3.3).

        In training mode, as the steps that follow compute: running statistics of batch normalisation begin with it.
        ``images`` goes over them anew at each call, in batches ``(N, 1, S, S)``.
        """
        if isinstance(self.encoder, BackboneEncoder):
            self.encoder.standardise(images())
        codes = torch.cat([self.encoder(image) for image in images()])
        self.center.copy_(away_from_0(codes.mean(0)))
        self.has_center.fill_(True)

    def reconstruct(self, image: Tensor) -> Tensor:
        """Encodes and decodes, ``(N, 1, S, S)`` in [0, 1] to the same; only with a decoder."""
        assert self.decoder is not None  # called in pre-training only
        reconstruction: Tensor = self.decoder(self.encoder(image))
        return reconstruction

    def forward(self, batch: Tensor) -> Tensor | ScoredBatch:
        """Encodes pre-processed images ``(N, 3, S, S)`` in training, scores them without a map in evaluation."""
        codes: Tensor = self.encoder(batch.mean(1, keepdim=True))
        if self.training:
            return codes
        return ScoredBatch.of({"svdd": squared_distance(codes, self.center)}, self.score, None)
