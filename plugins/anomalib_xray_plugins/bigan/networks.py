"""Encoder and joint discriminator of the BiGAN.

Source: arXiv 2001.10883, section 3 and its appendix tables; Donahue et al. 2017 (1605.09782). Images are (-1, 1) here.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from anomalib_xray.components.sagan import SLOPE, SMALLEST, Trunk, maybe_spectral

MATCHED_LEVELS = 2
"""Number of levels of the discriminator's image branch, from the last one up, whose features are matched."""

IMAGE_SHARE, CODE_SHARE, JOINT_SHARE = 16, 8, 16
"""Units of the discriminator's layers in multiples of the width: 1024, 512 and 1024 as published."""


class Encoder(nn.Module):
    """Image to code.

    Args:
        trunk: Downward path.
        latent_size: Length Z of the code.
    """

    def __init__(self, trunk: Trunk, latent_size: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Conv2d(trunk.channels, latent_size, SMALLEST)

    def forward(self, image: Tensor) -> Tensor:
        """Encodes ``(N, 1, S, S)`` to ``(N, Z)``, unbounded."""
        code: Tensor = self.head(self.trunk(image)).flatten(1)
        return code


class PairDiscriminator(nn.Module):
    """Tells an image with its code from a code with its image.

    No layer of it mixes the pairs of a batch.

    Args:
        trunk: Downward path of the image branch.
        width: Channels of the trunk's first level, which scale the other layers.
        latent_size: Length Z of the codes.
        spectral: Whether all layers but the last are spectrally normalised.
    """

    def __init__(self, trunk: Trunk, width: int, latent_size: int, spectral: bool) -> None:
        super().__init__()
        image, code, joint = (share * width for share in (IMAGE_SHARE, CODE_SHARE, JOINT_SHARE))
        self.trunk = trunk
        self.image_head = nn.Sequential(
            maybe_spectral(nn.Conv2d(trunk.channels, image, SMALLEST), spectral), nn.Flatten(), nn.LeakyReLU(SLOPE)
        )
        self.code_branch = nn.Sequential(*_dense([latent_size, code, code], spectral))
        self.joint = nn.Sequential(*_dense([image + code, joint, joint], spectral), nn.Linear(joint, 1), nn.Flatten(0))

    def forward(self, image: Tensor, code: Tensor) -> Tensor:
        """Judges pairs.

        Args:
            image: ``(N, 1, S, S)`` in (-1, 1).
            code: ``(N, Z)``.

        Returns:
            Logits, higher = an image with the encoder's code, ``(N,)``.
        """
        return self.judge(self.trunk(image), code)

    def judge(self, features: Tensor, code: Tensor) -> Tensor:
        """Judges pairs by the features of the trunk's last level, ``(N, C, 4, 4)``; see :meth:`forward`."""
        logits: Tensor = self.joint(torch.cat([self.image_head(features), self.code_branch(code)], dim=1))
        return logits

    def matched_features(self, image: Tensor) -> list[Tensor]:
        """The features that are matched: those of the image branch's last two levels."""
        return self.trunk.features(image)[-MATCHED_LEVELS:]


def _dense(units: list[int], spectral: bool) -> list[nn.Module]:
    """Fully connected layers with leaky ReLU, of these numbers of units."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(units):
        layers += [maybe_spectral(nn.Linear(inputs, outputs), spectral), nn.LeakyReLU(SLOPE)]
    return layers
