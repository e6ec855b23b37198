"""F-AnoGAN as an anomalib model."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, Literal

import torch
from anomalib.data import ImageBatch
from anomalib.models import AnomalibModule
from torch import Tensor, nn, optim
from torch.nn.functional import l1_loss, mse_loss

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.adversarial import AdversarialLoss, discriminator_loss, passing_loss
from anomalib_xray.networks.losses import masked_mse_loss
from anomalib_xray.networks.sagan import to_tanh_range
from anomalib_xray.scores import foreground
from anomalib_xray.training.gan_model import GanModel, evaluating, generator_of
from anomalib_xray.training.reconstruction_model import ReconstructionModel
from anomalib_xray.training.trained_model import Phases, check_share
from anomalib_xray_plugins.f_ano_gan.networks import Blocks, Code
from anomalib_xray_plugins.f_ano_gan.torch_model import SCORES, FAnoGanModel


class FAnoGan(ReconstructionModel, GanModel, AnomalibModule):
    """f-AnoGAN: a generative adversarial network of normal radiographs, and an encoder that inverts it.

    Source: Schlegl et al. 2019, "f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks".
    The first epochs train generator and critic, the last ones the encoder alone, through the generator as evaluation
    uses it. Which is which follows from the epoch and ``trainer.max_epochs``; validation scores mean little before the
    encoder's epochs, and a training that is stopped early has no encoder. Where the epochs are too few to be divided,
    and with ``encoder_share: 0``, every step trains all three. Schedules run over each network's own epochs.

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        width: Channels of the first level; the widest level has 8 times as many.
        latent: Code ``linear`` (unbounded) or ``tanh`` (in (-1, 1), as published).
        blocks: ``residual`` blocks as published, or ``plain``: one convolution a level, about a tenth of the cost.
        adversarial_loss: ``wgan-gp`` (as published), ``log`` or ``hinge``.
        critic_steps: Steps of the critic for one of the generator.
        encoder_share: Share of the epochs, at the end, that train the encoder.
        feature_weight: Weight of the critic's features in the encoder's loss and in the score ``anogan``; 1 as
            published.
        score: Score that becomes the predicted score: ``anogan``, ``residual``, ``feature``, ``latent_distance``,
            ``discriminator``, or ``mse``, ``l1``, ``smooth_l1``, ``ssim``, ``gradient``, each of these also with
            ``_top_k``.
        learning_rate: Learning rate of the generator.
        discriminator_learning_rate: Learning rate of the critic.
        encoder_learning_rate: Learning rate of the encoder.
        encoder_optimizer: Optimiser of the encoder: ``adam`` or ``rmsprop`` (as published).
        betas: Coefficients of Adam.
        schedule: Learning rates over each network's own epochs: ``constant``, ``linear``, ``cosine`` or
            ``exponential``.

    Raises:
        XrayError: A share out of range, a negative weight, or no critic step.

    Example:
        >>> "anogan" in FAnoGan(width=4, latent_size=8, blocks="plain").scores
        True
    """

    model: FAnoGanModel
    scores = SCORES

    def __init__(
        self,
        image_size: int = 64,
        width: int = 64,
        latent: Code = "linear",
        blocks: Blocks = "residual",
        adversarial_loss: AdversarialLoss = "wgan-gp",
        critic_steps: int = 5,
        encoder_share: float = 0.4,
        feature_weight: float = 1.0,
        score: str = "anogan",
        learning_rate: float = 1e-4,
        discriminator_learning_rate: float = 1e-4,
        encoder_learning_rate: float = 1e-4,
        encoder_optimizer: Literal["adam", "rmsprop"] = "adam",
        betas: tuple[float, float] = (0.0, 0.9),
        **settings: Any,
    ) -> None:
        super().__init__(
            image_size=image_size,
            adversarial_loss=adversarial_loss,
            score=score,
            learning_rate=learning_rate,
            discriminator_learning_rate=discriminator_learning_rate,
            betas=betas,
            **settings,
        )
        if critic_steps < 1:
            msg = f"critic_steps is {critic_steps}, but the critic has at least 1 step for one of the generator."
            raise XrayError(msg)
        if feature_weight < 0:
            msg = f"feature_weight is {feature_weight}, but it is at least 0, which leaves the features out."
            raise XrayError(msg)
        check_share("encoder_share", encoder_share, "trained beside the generator", 0.4)
        self.critic_steps, self.feature_weight, self.encoder_share = critic_steps, feature_weight, encoder_share
        self.encoder_learning_rate, self.encoder_optimizer = encoder_learning_rate, encoder_optimizer
        self.model = FAnoGanModel(
            image_size,
            width,
            self.latent_size,
            latent,
            blocks,
            feature_weight,
            adversarial_loss,
            self.ema_decay,
            self.make_scorer(),
        )

    def players(self) -> dict[str, tuple[Sequence[nn.Module], float]]:
        """Critic, generator and encoder."""
        return {
            "discriminator": ([self.model.discriminator], self.discriminator_learning_rate),
            "generator": ([self.model.generator], self.learning_rate),
            "encoder": ([self.model.encoder], self.encoder_learning_rate),
        }

    def make_optimizer(self, player: str, weights: list[nn.Parameter], rate: float) -> optim.Optimizer:
        """Adam, or RMSprop for the encoder."""
        if player == "encoder" and self.encoder_optimizer == "rmsprop":
            return optim.RMSprop(weights, lr=rate)
        return super().make_optimizer(player, weights, rate)

    def part_of(self, player: str) -> int:
        """The encoder is trained last."""
        return int(player == "encoder")

    def phases(self) -> Phases:
        """Generator and critic are trained, then the encoder; in each step all three where this is not divided."""
        if self.encoder_share:
            self.check_end("encoder_share", self.encoder_share, "encoder_share: 0 to train it beside the generator")
        return Phases.by_share(1 - self.encoder_share, self.trainer.max_epochs)

    def training_step(self, batch: ImageBatch, batch_idx: int, *_: Any) -> None:
        """Updates the networks of the phase in turn."""
        image, phase = self.grey(batch), self.phases().of(self.current_epoch)
        if phase != 1:
            self._step_of_gan(to_tanh_range(image), batch_idx)
        if phase != 0:
            self._step_of_encoder(image)

    def _step_of_gan(self, image: Tensor, batch_idx: int) -> None:
        """Updates the critic, and in every ``critic_steps``-th step the generator."""
        model, kind = self.model, self.adversarial_loss
        noise = torch.randn(2, len(image), model.latent_size, device=self.device)

        self.turn_of("discriminator")
        with torch.no_grad():
            sample = model.generator(noise[0])
        real, fake = model.discriminator(image), model.discriminator(sample)
        loss = discriminator_loss(real, [fake], kind) + self.penalty(model.discriminator, image, sample)
        self.update("discriminator", loss)
        losses = {"discriminator_loss": loss}

        if self._step(batch_idx) % self.critic_steps == 0:
            self.turn_of("generator")
            losses["generator_loss"] = passing_loss(model.discriminator(model.generator(noise[1])), kind)
            self.update("generator", losses["generator_loss"])
        self.end_of_step(losses, real, fake, len(image))

    def _step_of_encoder(self, image: Tensor) -> None:
        """Updates the encoder through the generator as evaluation uses it."""
        model, generator = self.model, generator_of(self.model)
        self.turn_of("encoder")
        real = to_tanh_range(image)
        with evaluating(generator):
            reconstruction = generator(model.encoder(real))
        with torch.no_grad():
            features = model.discriminator.features(real)
        reconstructed = model.discriminator.features(reconstruction)
        loss = encoder_loss(real, reconstruction, foreground(image), features, reconstructed, self.feature_weight)
        self.update("encoder", loss)

        if not self.plays():  # otherwise the adversarial step has done it
            self.step_schedules()
        losses = {"encoder_loss": loss, "reconstruction_l1": l1_loss(reconstruction, real)}
        self.log_losses(losses, len(image))

    def _step(self, batch_idx: int) -> int:
        """Number of the step from the start of training, from 0, also after a resumption."""
        batches = self.trainer.num_training_batches
        return self.current_epoch * int(batches) + batch_idx if isfinite(batches) else batch_idx


def encoder_loss(
    image: Tensor, made: Tensor, mask: Tensor, features: Tensor, made_features: Tensor, feature_weight: float
) -> Tensor:
    """``MSE(x, G(E(x))) + k MSE(f(x), f(G(E(x))))``, the loss "izi_f" (section 3.3).

    Pixels count in the foreground only: the background is 0 by preparation, and a score never looks at it. The critic's
    features see the whole images, so that a hand of the wrong outline still costs. On raw images, whose foreground is
    everything, this is the published loss.

    Args:
        image: ``(N, 1, S, S)`` in [-1, 1].
        made: ``G(E(x))``, same range and shape.
        mask: 1 in the foreground and 0 outside, same shape.
        features: The critic's features of the images, ``(N, F)``.
        made_features: Those of the reconstructions, ``(N, F)``.
        feature_weight: Weight k of the features (1 as published).
    """
    return masked_mse_loss(made, image, mask) + feature_weight * mse_loss(made_features, features)
