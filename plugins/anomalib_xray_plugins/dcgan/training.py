"""How a generator and a discriminator train, for every model that is made of the two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from anomalib.data import ImageBatch
from torch import Tensor, nn

from anomalib_xray.components import (
    GanModel,
    add_noise,
    discriminator_loss,
    gradient_penalty,
    instance_noise_level,
    passing_loss,
)
from anomalib_xray.components.sagan import to_tanh_range

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule
else:
    AnomalibModule = object


class PairTraining(GanModel, AnomalibModule):
    """Mixin of a plugin whose ``self.model`` has a ``generator`` and a ``discriminator`` of this package.

    The constructor has the arguments ``adversarial_loss``, ``gradient_penalty``, ``soft_labels``, ``instance_noise``,
    ``noise_schedule``, ``learning_rate`` and ``discriminator_learning_rate`` besides those of
    :class:`~anomalib_xray.components.GanModel`.
    """

    def players(self) -> dict[str, tuple[Sequence[nn.Module], float]]:
        """Discriminator and generator."""
        model: Any = self.model
        return {
            "discriminator": ([model.discriminator], self.hparams["discriminator_learning_rate"]),
            "generator": ([model.generator], self.hparams["learning_rate"]),
        }

    def training_step(self, batch: ImageBatch, *_: Any) -> None:  # noqa: ANN401
        """Updates the discriminator, then the generator.

        Each is updated on a forward pass of its own through the current weights of the other.
        """
        model: Any = self.model
        image = self.grey(batch)
        self.keep(image)
        image = to_tanh_range(image)
        deviation = self.noise_deviation()
        codes = torch.randn(len(image), self.hparams["latent_size"], device=self.device, dtype=image.dtype)

        self.turn_of("discriminator")
        with torch.no_grad():
            sample = add_noise(model.generator(codes), deviation)
        image = add_noise(image, deviation)
        real, fake = model.discriminator(image, remember=True), model.discriminator(sample)
        discriminator = self._discriminator_loss(image, sample, real, fake)
        self.update("discriminator", discriminator)

        self.turn_of("generator")
        judged = model.discriminator(add_noise(model.generator(codes), deviation))
        generator = passing_loss(judged, self.hparams["adversarial_loss"])
        self.update("generator", generator)

        losses = {"generator_loss": generator, "discriminator_loss": discriminator}
        self.end_of_step(losses, real, fake, len(image))

    def noise_deviation(self) -> float:
        """Standard deviation of the noise on what the discriminator sees in this epoch."""
        epochs = self.trainer.max_epochs or 1
        schedule = self.hparams["noise_schedule"]
        return instance_noise_level(self.hparams["instance_noise"], self.current_epoch, max(epochs, 1), schedule)

    def _discriminator_loss(self, image: Tensor, sample: Tensor, real: Tensor, fake: Tensor) -> Tensor:
        """The discriminator's loss on images and samples, ``(N, 1, S, S)`` each, from their logits, ``(N,)``."""
        kind = self.hparams["adversarial_loss"]
        loss = discriminator_loss(real, [fake], kind, self.hparams["soft_labels"])
        if kind == "wgan-gp":
            penalty = gradient_penalty(self.model.discriminator, image, sample)  # type: ignore[arg-type]  # a module
            loss = loss + self.hparams["gradient_penalty"] * penalty
        return loss
