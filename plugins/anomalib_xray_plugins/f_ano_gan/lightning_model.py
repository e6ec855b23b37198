"""F-AnoGAN as an anomalib model."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any, Literal

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import LRSchedulerPLType
from torch import Tensor, nn, optim
from torch.nn.functional import l1_loss

from anomalib_xray.components import (
    AdversarialLoss,
    GanModel,
    Schedule,
    discriminator_loss,
    evaluating,
    generator_of,
    gradient_penalty,
    passing_loss,
)
from anomalib_xray.components.sagan import to_tanh_range
from anomalib_xray.components.schedule import with_schedule
from anomalib_xray.errors import XrayError
from anomalib_xray.scores import ReconstructionScorer, foreground
from anomalib_xray_plugins.f_ano_gan.loss import encoder_loss
from anomalib_xray_plugins.f_ano_gan.networks import Blocks, Code
from anomalib_xray_plugins.f_ano_gan.phases import Phase, gan_epochs, phase_of
from anomalib_xray_plugins.f_ano_gan.torch_model import SCORES, FAnoGanModel


class FAnoGan(GanModel, AnomalibModule):
    """f-AnoGAN: a generative adversarial network of normal radiographs, and an encoder that inverts it.

    Source: Schlegl et al. 2019, "f-AnoGAN: Fast unsupervised anomaly detection with generative adversarial networks".
    The first epochs train generator and critic, the last ones the encoder alone, through the generator as evaluation
    uses it. Which is which follows from the epoch and ``trainer.max_epochs``; validation scores mean little before the
    encoder's epochs, and a training that is stopped early has no encoder. Where the epochs are too few to be divided,
    and with ``encoder_share: 0``, every step trains all three.

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        equalize: Whether the foreground's histogram is equalised.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        width: Channels of the first level; the widest level has 8 times as many.
        latent_size: Length of the code.
        latent: Code ``linear`` (unbounded) or ``tanh`` (in (-1, 1), as published).
        blocks: ``residual`` blocks as published, or ``plain``: one convolution a level, about a tenth of the cost.
        adversarial_loss: ``wgan-gp`` (as published), ``log`` or ``hinge``.
        gradient_penalty: Weight of the gradient penalty of ``wgan-gp``.
        critic_steps: Steps of the critic for one of the generator.
        encoder_share: Share of the epochs, at the end, that train the encoder.
        feature_weight: Weight of the critic's features in the encoder's loss and in the score ``anogan``; 1 as
            published.
        ema_decay: Decay of the moving average of the generator's weights that evaluation and encoder use; 0 for none.
        score: Score that becomes the predicted score: ``anogan``, ``residual``, ``feature``, ``latent_distance``,
            ``discriminator``, or ``mse``, ``l1``, ``smooth_l1``, ``ssim``, ``gradient``, each of these also with
            ``_top_k``.
        extra_scores: Errors whose scores are computed besides: ``ssim``, ``gradient``.
        top_k: Pixels of the top-k scores: a number, or a fraction of the foreground if below 1.
        map_sigma: Smoothing of the anomaly map, in pixels of the network's input.
        learning_rate: Learning rate of the generator.
        discriminator_learning_rate: Learning rate of the critic.
        encoder_learning_rate: Learning rate of the encoder.
        encoder_optimizer: Optimiser of the encoder: ``adam`` or ``rmsprop`` (as published).
        betas: Coefficients of Adam.
        schedule: Learning rates over each network's own epochs: ``constant``, ``linear``, ``cosine`` or
            ``exponential``.
        seed: Seed of weights, codes, shuffling and augmentation; none leaves them random.
        pre_processor: Pre-processor, or whether to use the default one.
        post_processor: Post-processor, or whether to use the default one.
        evaluator: Evaluator, or whether to use the default one.
        visualizer: Visualizer, or whether to use the default one.

    Raises:
        XrayError: An image size or score that the model does not have, a share out of range, or no critic step.
    """

    model: FAnoGanModel

    def __init__(
        self,
        image_size: int = 64,
        equalize: bool = False,
        augmentation: Literal["default", "advanced"] | None = "default",
        width: int = 64,
        latent_size: int = 128,
        latent: Code = "linear",
        blocks: Blocks = "residual",
        adversarial_loss: AdversarialLoss = "wgan-gp",
        gradient_penalty: float = 10.0,
        critic_steps: int = 5,
        encoder_share: float = 0.4,
        feature_weight: float = 1.0,
        ema_decay: float = 0.0,
        score: str = "anogan",
        extra_scores: list[str] | None = None,
        top_k: float = 0.03,
        map_sigma: float = 1.0,
        learning_rate: float = 1e-4,
        discriminator_learning_rate: float = 1e-4,
        encoder_learning_rate: float = 1e-4,
        encoder_optimizer: Literal["adam", "rmsprop"] = "adam",
        betas: tuple[float, float] = (0.0, 0.9),
        schedule: Schedule = "constant",
        seed: int | None = 42,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        self.start(SCORES)
        if critic_steps < 1:
            msg = f"critic_steps is {critic_steps}, but the critic has at least 1 step for one of the generator."
            raise XrayError(msg)
        if feature_weight < 0:
            msg = f"feature_weight is {feature_weight}, but it is at least 0, which leaves the features out."
            raise XrayError(msg)
        gan_epochs(1, encoder_share)  # refuses a share out of range before training starts
        self.model = FAnoGanModel(
            image_size,
            width,
            latent_size,
            latent,
            blocks,
            feature_weight,
            adversarial_loss,
            ema_decay,
            ReconstructionScorer(score, top_k, map_sigma, extra_scores),
        )

    def players(self) -> dict[str, tuple[Sequence[nn.Module], float]]:
        """Critic, generator and encoder."""
        model, rates = self.model, self.hparams
        return {
            "discriminator": ([model.discriminator], rates["discriminator_learning_rate"]),
            "generator": ([model.generator], rates["learning_rate"]),
            "encoder": ([model.encoder], rates["encoder_learning_rate"]),
        }

    def configure_optimizers(self) -> Any:  # noqa: ANN401  # Lightning's union of forms
        """Adam, or RMSprop for the encoder; schedules run over the epochs in which a player is trained."""
        optimizers = []
        for name, (networks, rate) in self.players().items():
            weights = [weight for network in networks for weight in network.parameters()]
            optimizer: optim.Optimizer
            if name == "encoder" and self.hparams["encoder_optimizer"] == "rmsprop":
                optimizer = optim.RMSprop(weights, lr=rate)
            else:
                optimizer = optim.Adam(weights, lr=rate, betas=tuple(self.hparams["betas"]))
            share = self._share_of_epochs(name)
            optimizers.append(with_schedule(optimizer, self.hparams["schedule"], self._trainer, share))
        return optimizers

    def phase(self) -> Phase:
        """Which networks the current epoch trains."""
        return phase_of(self.current_epoch, self.trainer.max_epochs, self.hparams["encoder_share"])

    def plays(self) -> bool:
        """Whether the current epoch trains generator and critic."""
        return self.phase() != "encoder"

    def training_step(self, batch: ImageBatch, batch_idx: int, *_: Any) -> None:  # noqa: ANN401
        """Updates the networks of the phase in turn."""
        image, phase = self.grey(batch), self.phase()
        if phase != "encoder":
            self._step_of_gan(to_tanh_range(image), batch_idx)
        if phase != "gan":
            self._step_of_encoder(image)

    def _step_of_gan(self, image: Tensor, batch_idx: int) -> None:
        """Updates the critic, and in every ``critic_steps``-th step the generator."""
        model, kind = self.model, self.hparams["adversarial_loss"]
        noise = torch.randn(2, len(image), model.latent_size, device=self.device)

        self.turn_of("discriminator")
        with torch.no_grad():
            sample = model.generator(noise[0])
        real, fake = model.discriminator(image), model.discriminator(sample)
        loss = discriminator_loss(real, [fake], kind)
        if kind == "wgan-gp":
            penalty = gradient_penalty(model.discriminator, image, sample)
            loss = loss + self.hparams["gradient_penalty"] * penalty
        self.update("discriminator", loss)
        losses = {"discriminator_loss": loss}

        if self._step(batch_idx) % self.hparams["critic_steps"] == 0:
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
        loss = encoder_loss(
            real,
            reconstruction,
            foreground(image),
            features,
            model.discriminator.features(reconstruction),
            self.hparams["feature_weight"],
        )
        self.update("encoder", loss)

        if not self.plays():  # otherwise the adversarial step has done it
            self.step_schedules()
        losses = {"encoder_loss": loss, "reconstruction_l1": l1_loss(reconstruction, real)}
        self.log_losses(losses, len(image))

    def _step(self, batch_idx: int) -> int:
        """Number of the step from the start of training, from 0; known after a resumption too."""
        batches = self.trainer.num_training_batches
        return self.current_epoch * int(batches) + batch_idx if isfinite(batches) else batch_idx

    def _schedulers(self) -> list[LRSchedulerPLType]:
        """Those of the players whose phase it is."""
        schedulers, phase = super()._schedulers(), self.phase()
        if phase == "both":
            return schedulers
        return schedulers[:-1] if phase == "gan" else schedulers[-1:]

    def _share_of_epochs(self, player: str) -> float:
        """Share of the epochs in which a player is trained."""
        if self._trainer is None or self.hparams["schedule"] == "constant":
            return 1.0
        epochs = self._trainer.max_epochs
        first = gan_epochs(epochs, self.hparams["encoder_share"])
        if first is None or epochs is None:
            return 1.0
        return 1 - first / epochs if player == "encoder" else first / epochs

    def pictures(self, image: Tensor) -> dict[str, Tensor]:
        """Images above their reconstructions, and samples from fixed codes."""
        return {**super().pictures(image), **self.reconstruction_rows(image, self.model.reconstruct(image))}
