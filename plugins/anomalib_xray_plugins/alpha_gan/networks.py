"""Three of the four players of the α-GAN: encoder, discriminator and code discriminator.

Source: arXiv 2001.10883, section 3 and its appendix tables; Rosca et al. 2017 (1706.04987). Images are (-1, 1) here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anomalib_xray.components import GaussianHead, Latent, MinibatchDiscrimination
from anomalib_xray.components.sagan import SMALLEST, Trunk, maybe_spectral

NARROW = -4.0
"""Log-variance of untrained codes: with a wide one all codes look alike to the generator, and it learns nothing from
them."""

MATCHED_LEVELS = 2
"""Number of levels of the discriminator, from the last one up, whose features are matched."""


class Encoder(nn.Module):
    """Image to the mean and the standard deviation of its code.

    Args:
        trunk: Downward path.
        latent_size: Length Z of the code.
        latent: See :class:`~anomalib_xray.components.GaussianHead`.
    """

    def __init__(self, trunk: Trunk, latent_size: int, latent: Latent) -> None:
        super().__init__()
        self.trunk = trunk
        mean, spread = (nn.Conv2d(trunk.channels, latent_size, SMALLEST) for _ in range(2))
        if latent == "linear":
            assert spread.bias is not None  # a convolution's default
            nn.init.constant_(spread.bias, NARROW)
        self.head = GaussianHead(mean, spread, latent)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes ``(N, 1, S, S)`` to mean and standard deviation, each ``(N, Z)``."""
        mean, deviation = self.head(self.trunk(image))
        return mean, deviation


class Discriminator(nn.Module):
    """Tells real images from generated ones.

    Args:
        trunk: Downward path.
        minibatch_discrimination: Whether images are compared with others of their batch.
        spectral: Whether the last convolution is spectrally normalised.
    """

    kernels = 64

    def __init__(self, trunk: Trunk, minibatch_discrimination: bool, spectral: bool) -> None:
        super().__init__()
        self.trunk = trunk
        inputs = trunk.channels * SMALLEST**2
        self.minibatch = MinibatchDiscrimination(inputs, self.kernels) if minibatch_discrimination else None
        closeness = self.kernels // SMALLEST**2 if minibatch_discrimination else 0
        self.head = maybe_spectral(nn.Conv2d(trunk.channels + closeness, 1, SMALLEST), spectral)

    def forward(self, image: Tensor, remember: bool = False) -> Tensor:
        """Judges images.

        Args:
            image: ``(N, 1, S, S)`` in (-1, 1).
            remember: Whether the images are real training images whose features evaluation may compare with.

        Returns:
            Logits, higher = more real, ``(N,)``.
        """
        return self.judge(self.trunk(image), remember)

    def judge(self, features: Tensor, remember: bool = False) -> Tensor:
        """Judges the features of the trunk's last level, ``(N, C, 4, 4)``; see :meth:`forward`."""
        if self.minibatch is not None:
            flat = features.flatten(1)
            if remember:
                self.minibatch.remember(flat.detach())
            closeness = self.minibatch(flat).unflatten(1, (-1, SMALLEST, SMALLEST))
            features = torch.cat([features, closeness], dim=1)
        logits: Tensor = self.head(features).flatten()
        return logits

    def matched_features(self, image: Tensor) -> list[Tensor]:
        """The features that are matched: those of the trunk's last two levels."""
        return self.trunk.features(image)[-MATCHED_LEVELS:]


class CodeDiscriminator(nn.Sequential):
    """Tells codes drawn from the normal distribution, ``(N, Z)``, from an encoder's: logits ``(N,)``.

    Args:
        latent_size: Length Z of the code; the hidden layers have Z/2 and Z/4 units.
        spectral: Whether all layers are spectrally normalised. Without it the encoder, whose loss has no bound, may
            drive its codes and the logits ever further, and forgets the image over it.
    """

    def __init__(self, latent_size: int, spectral: bool = False) -> None:
        half, quarter = latent_size // 2, latent_size // 4
        super().__init__(
            maybe_spectral(nn.Linear(latent_size, half), spectral),
            nn.LeakyReLU(0.1),
            maybe_spectral(nn.Linear(half, quarter), spectral),
            nn.LeakyReLU(0.1),
            maybe_spectral(nn.Linear(quarter, 1), spectral),
            nn.Flatten(0),
        )
