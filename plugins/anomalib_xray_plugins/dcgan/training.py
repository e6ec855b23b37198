"""Training of a generator and a discriminator, for every model that is made of the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from anomalib.data import ImageBatch
from torch import nn

from anomalib_xray.networks.adversarial import (
    NoiseSchedule,
    add_noise,
    check_soft_labels,
    discriminator_loss,
    instance_noise_level,
    passing_loss,
)
from anomalib_xray.networks.sagan import to_tanh_range
from anomalib_xray.training.gan_model import GanModel
from anomalib_xray.training.reconstruction_model import MapModel
from anomalib_xray_plugins.dcgan.networks import Norm


class PairTraining(MapModel, GanModel):
    """Mixin of a plugin whose ``self.model`` has a ``generator`` and a ``discriminator`` of this package.

    Args:
        width: Channels of the generator's last level; every level towards the code doubles them.
        discriminator_width: Channels of the discriminator's first level; every further level doubles them.
        norm: Normalisation of the generator's levels: ``none`` (as published for the DCGAN) or ``batch``.
        spectral_norm: Whether convolutions are spectrally normalised; in ``AnoGan`` the discriminator's only.
        minibatch_discrimination: Whether the discriminator compares images with others of their batch; not with
            ``wgan-gp``.
        soft_labels: Largest distance of the discriminator's labels from 0 and 1; with ``log`` only.
        instance_noise: Factor of the noise on what the discriminator sees in training; 0 for none.
        noise_schedule: How the noise fades: ``linear``, or ``published``.

    Raises:
        XrayError: Soft labels with a loss that has no labels.
    """

    def __init__(
        self,
        width: int = 16,
        discriminator_width: int = 16,
        norm: Norm = "batch",
        spectral_norm: bool = True,
        minibatch_discrimination: bool = True,
        soft_labels: float = 0.0,
        instance_noise: float = 0.0,
        noise_schedule: NoiseSchedule = "linear",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        check_soft_labels(soft_labels, self.adversarial_loss)
        self.soft_labels, self.instance_noise, self.noise_schedule = soft_labels, instance_noise, noise_schedule
        self.networks = (
            self.image_size,
            width,
            discriminator_width,
            self.latent_size,
            norm,
            spectral_norm,
            self.compares_images(minibatch_discrimination),
            self.ema_decay,
        )
        """The first arguments of the torch modules of this package and its like."""

    def players(self) -> dict[str, tuple[Sequence[nn.Module], float]]:
        """Discriminator and generator."""
        model: Any = self.model
        return {
            "discriminator": ([model.discriminator], self.discriminator_learning_rate),
            "generator": ([model.generator], self.learning_rate),
        }

    def training_step(self, batch: ImageBatch, *_: Any) -> None:
        """Updates the discriminator, then the generator, each on a forward pass of its own."""
        model: Any = self.model
        image = self.grey(batch)
        self.keep(image)
        image = to_tanh_range(image)
        deviation = self.noise_deviation()
        codes = torch.randn(len(image), self.latent_size, device=self.device, dtype=image.dtype)

        self.turn_of("discriminator")
        with torch.no_grad():
            sample = add_noise(model.generator(codes), deviation)
        image = add_noise(image, deviation)
        real, fake = model.discriminator(image, remember=True), model.discriminator(sample)
        discriminator = discriminator_loss(real, [fake], self.adversarial_loss, self.soft_labels)
        discriminator = discriminator + self.penalty(model.discriminator, image, sample)
        self.update("discriminator", discriminator)

        self.turn_of("generator")
        judged = model.discriminator(add_noise(model.generator(codes), deviation))
        generator = passing_loss(judged, self.adversarial_loss)
        self.update("generator", generator)

        losses = {"generator_loss": generator, "discriminator_loss": discriminator}
        self.end_of_step(losses, real, fake, len(image))

    def noise_deviation(self) -> float:
        """Standard deviation of the noise on the discriminator's images in this epoch."""
        epochs = self.trainer.max_epochs or 1
        return instance_noise_level(self.instance_noise, self.current_epoch, max(epochs, 1), self.noise_schedule)
