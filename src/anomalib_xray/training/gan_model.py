"""Models with an adversarial loss: players that take turns, moving averages, samples, stored features."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities.types import LRSchedulerPLType
from torch import Tensor, nn, optim

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.adversarial import AdversarialLoss, gradient_penalty
from anomalib_xray.networks.attention_maps import attention_maps, has_attention
from anomalib_xray.networks.feature_memory import FeatureMemory
from anomalib_xray.networks.gan_network import AT_A_TIME
from anomalib_xray.networks.minibatch_discrimination import MinibatchDiscrimination
from anomalib_xray.networks.sagan import to_tanh_range, to_unit_range
from anomalib_xray.scores import FEATURE_DISTANCE
from anomalib_xray.training.callbacks import GanMonitor
from anomalib_xray.training.trained_model import TrainedModel, make_adam

if TYPE_CHECKING:
    from torch.optim.swa_utils import AveragedModel

logger = logging.getLogger(__name__)

REFERENCE_PIXELS = 2**25
"""Pixels of the training images that features are stored of: 2048 images of 128 x 128, 128 of 512 x 512."""


class GanModel(TrainedModel):
    """Mixin of a plugin whose networks train against each other: ``class Dcgan(GanModel, AnomalibModule)``.

    The plugin builds ``self.model``, whose ``generator`` maps codes ``(N, Z)`` to images ``(N, 1, S, S)`` in (-1, 1);
    its ``average`` is the generator's moving average or ``None``. It says who plays (:meth:`players`) and writes the
    training step from :meth:`turn_of`, :meth:`update` and :meth:`end_of_step`:

        self.turn_of("generator")
        loss = ...
        self.update("generator", loss)

    Every player is updated on a forward pass of its own through the current weights of the others.

    Where evaluation compares with features of real images, :meth:`remember` stores them, for which the training step
    hands its images to :meth:`keep`.

    Args:
        latent_size: Length of the code.
        adversarial_loss: ``log`` (as published; called hinge in arXiv 2001.10883), ``hinge`` or ``wgan-gp``.
        gradient_penalty: Weight of the gradient penalty of ``wgan-gp``.
        ema_decay: Decay of the moving average of the generator's weights that evaluation uses; 0 for none.
        learning_rate: Learning rate of the generator.
        discriminator_learning_rate: Learning rate of the discriminator.
        betas: Coefficients of Adam.
    """

    fixed_codes: Tensor

    def __init__(
        self,
        latent_size: int = 128,
        adversarial_loss: AdversarialLoss = "hinge",
        gradient_penalty: float = 10.0,
        ema_decay: float = 0.0,
        learning_rate: float = 2e-4,
        discriminator_learning_rate: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        **settings: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **settings)
        self.latent_size, self.ema_decay = latent_size, ema_decay
        self.adversarial_loss, self.gradient_penalty = adversarial_loss, gradient_penalty
        self.discriminator_learning_rate, self.betas = discriminator_learning_rate, betas
        self.seen: list[Tensor] = []
        self.automatic_optimization = False  # optimisers are stepped by hand
        self.register_buffer("fixed_codes", torch.randn(32, latent_size))

    def compares_images(self, minibatch_discrimination: bool) -> bool:
        """Whether the discriminator has minibatch discrimination: as set, but not where it has a gradient penalty."""
        if not minibatch_discrimination or self.adversarial_loss != "wgan-gp":
            return minibatch_discrimination
        logger.warning(
            "%s trains without minibatch_discrimination: the gradient penalty of wgan-gp looks at each image on "
            "its own, which a discriminator that compares images does not.",
            self.name,
        )
        self.hparams["minibatch_discrimination"] = False
        return False

    def players(self) -> dict[str, tuple[Sequence[nn.Module], float]]:
        """Networks and learning rate of each player, by name, in the order of their optimisers."""
        raise NotImplementedError

    def make_optimizer(self, player: str, weights: list[nn.Parameter], rate: float) -> optim.Optimizer:
        """The optimiser of a player: Adam, unless a plugin has another."""
        del player
        return make_adam(weights, rate, betas=self.betas)

    def part_of(self, player: str) -> int | None:
        """The part of the training's :meth:`phases` in which a player is trained; ``None`` for all of it."""
        del player
        return None

    def configure_optimizers(self) -> Any:
        """An optimiser for each player, with the schedule of the settings."""
        optimizers = []
        for name, (networks, rate) in self.players().items():
            weights = [weight for network in networks for weight in network.parameters()]
            optimizers.append(self.with_schedule(self.make_optimizer(name, weights, rate), self.part_of(name)))
        return optimizers

    def penalty(self, judge: Callable[[Tensor], Tensor], real: Tensor, *fakes: Tensor) -> Tensor | float:
        """The weighted gradient penalty between real inputs and each kind of fakes; 0 for losses without one."""
        if self.adversarial_loss != "wgan-gp":
            return 0.0
        parts = [gradient_penalty(judge, real, fake) for fake in fakes]
        return self.gradient_penalty * sum(parts[1:], parts[0])

    def configure_callbacks(self) -> list[Callback]:
        """Adds one that reports collapsed generators and dead discriminators."""
        return [*super().configure_callbacks(), GanMonitor()]

    def plays(self) -> bool:
        """Whether the current epoch trains the adversaries: all epochs do but those of a second part of training."""
        return self.phases().of(self.current_epoch) != 1

    def turn_of(self, player: str) -> None:
        """Lets gradients into one player's weights only."""
        for name, (networks, _) in self.players().items():
            for network in networks:
                network.requires_grad_(name == player)

    def update(self, player: str, loss: Tensor) -> None:
        """Makes one step of the player whose turn it is; the generator's average follows the generator's steps only."""
        optimizer = self._optimizers()[list(self.players()).index(player)]
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        average: AveragedModel | None = self.model.average  # type: ignore[assignment]  # a module's attributes are untyped
        generator: nn.Module = self.model.generator  # type: ignore[assignment]  # as above
        if average is not None and any(network is generator for network in self.players()[player][0]):
            average.update_parameters(generator)

    def end_of_step(self, losses: Mapping[str, Tensor], real: Tensor, fake: Tensor, batch_size: int) -> None:
        """Ends a training step: learning rates; log of the losses and of the logits of real and of fake images."""
        self.step_schedules()
        self.log_losses({**losses, "real_logit": real.mean(), "sample_logit": fake.mean()}, batch_size)

    def step_schedules(self) -> None:
        """Lowers learning rates after an epoch's last batch: checkpoints of the epoch are written after that."""
        schedulers = self._schedulers()
        if schedulers and self.trainer.is_last_batch:
            for scheduler in schedulers:
                scheduler.step()  # type: ignore[call-arg]  # none of ours takes a metric

    def _schedulers(self) -> list[LRSchedulerPLType]:
        """Schedules of the players that train in this part of the training."""
        part = self.phases().of(self.current_epoch)
        return [
            scheduler
            for scheduler, player in zip(super()._schedulers(), self.players(), strict=False)  # none if constant
            if part is None or self.part_of(player) in (None, part)
        ]

    @property
    def kept_images(self) -> int:
        """Number of real images of an epoch that :meth:`remember` needs.

        As many as minibatch discrimination stores; more where single features are chosen out of those of all.
        """
        if self._memory() is not None:
            return int(REFERENCE_PIXELS // self.image_size**2)
        minibatch = self._minibatch()
        return 0 if minibatch is None else len(minibatch.references)

    def keep(self, image: Tensor) -> None:
        """Keeps an epoch's first real images, ``(N, 1, S, S)`` in [0, 1], for :meth:`remember`."""
        room = self.kept_images - sum(map(len, self.seen))
        if room > 0:
            self.seen.append(image[:room].detach().clone())

    def remember(self) -> None:
        """Stores features of the epoch's real images, as the discriminator sees them now and in evaluation.

        Those that minibatch discrimination stored while the weights still changed fit no weights that evaluation uses.
        """
        if not self.seen:
            return
        images, minibatch = torch.cat(self.seen), self._minibatch()
        network: Any = self.model
        with torch.no_grad(), evaluating(network.discriminator):
            if minibatch is not None:
                minibatch.forget()
                for part in torch.split(to_tanh_range(images[: len(minibatch.references)]), AT_A_TIME):
                    # Not by its call, which torch.compile would compile once more for evaluation.
                    network.discriminator.forward(part, remember=True)
            if self._memory() is not None:
                network.remember(images, torch.Generator().manual_seed(self.seed or 0))

    def on_train_epoch_start(self) -> None:
        """Forgets the images of the epoch before."""
        super().on_train_epoch_start()
        self.seen = []

    def on_validation_start(self) -> None:
        """Stores features of the discriminator as it is, with which scores of the validation compare."""
        super().on_validation_start()
        self.remember()

    def on_train_epoch_end(self) -> None:
        """Hands all weights back as trainable, and stores features that fit them."""
        super().on_train_epoch_end()
        for networks, _ in self.players().values():
            for network in networks:
                network.requires_grad_(True)
        self.remember()
        self.seen = []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Stores features that fit the weights also in a checkpoint within an epoch."""
        self.remember()  # writes in place into what the checkpoint's state refers to
        super().on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses networks that are not those of this version and these settings.

        A checkpoint of an earlier version without stored features is loaded without the scores that compare with them.
        """
        super().on_load_checkpoint(checkpoint)
        name, state = checkpoint.get("model_name"), checkpoint["state_dict"]
        if name in (self.name, None) and self._memory() is not None and "model.memory.filled" not in state:
            self._do_without_memory()
        if name == self.name:  # another model's is said by whoever loads it
            self._check_layers(state)

    def _minibatch(self) -> MinibatchDiscrimination | None:
        """The discriminator's minibatch discrimination, if it has one."""
        found: MinibatchDiscrimination | None = getattr(self.model.discriminator, "minibatch", None)
        return found

    def _memory(self) -> FeatureMemory | None:
        """The stored features of single places, if the model has them."""
        found: FeatureMemory | None = getattr(self.model, "memory", None)
        return found

    def _do_without_memory(self) -> None:
        """Leaves out the scores of stored features."""
        if self.score.startswith(FEATURE_DISTANCE):
            msg = (
                f"The checkpoint has no stored features, which the score {self.score} compares with: an earlier "
                "version wrote it. Choose another score, or train the model anew."
            )
            raise XrayError(msg)
        self.model.memory = None  # type: ignore[assignment]  # a module's attributes are untyped

    def _check_layers(self, state: Mapping[str, Tensor]) -> None:
        """Refuses weights of other layers than the model's, before Torch fails over their sizes."""
        own = self.state_dict()
        for name, value in state.items():
            here = tuple(own[name].shape) if name in own else "not there"
            if here != tuple(value.shape) and (name in own or ".minibatch." in name):
                msg = (
                    f"The checkpoint's weights do not fit: {name} is {tuple(value.shape)} in it and {here} in the "
                    "model. It was written with other settings or by an earlier version; take its settings, or train "
                    "the model anew."
                )
                raise XrayError(msg)

    @torch.no_grad()
    def samples(self) -> Tensor:
        """Images from fixed codes, ``(32, 1, S, S)`` in [0, 1], as evaluation generates them."""
        network = generator_of(self.model)
        with evaluating(network):
            return to_unit_range(network(self.fixed_codes))

    def why_not_exportable(self) -> str | None:
        """The anomaly map needs a gradient."""
        if self.hparams.get("anomaly_map") != "grad_cam":
            return super().why_not_exportable()
        return (
            f"{self.name} with anomaly_map: grad_cam is not exported, because an exported model computes no gradient; "
            "load its checkpoint with the model's usual anomaly_map and export that (docs/how-to/explain.md)."
        )

    def pictures(self, image: Tensor) -> dict[str, Tensor]:
        """Samples from fixed codes, and the attention maps of each self-attention layer.

        The latter are three rows: images, what their pixel of the highest anomaly attends to, and how much attention
        every position receives.
        """
        maps = attention_maps(self.model, image.expand(-1, 3, -1, -1)).layers if has_attention(self.model) else {}
        rows = {f"attention_{name}": torch.cat([image, *layer]) for name, layer in maps.items()}
        return {**super().pictures(image), "samples": self.samples(), **rows}


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Lets a network compute as in evaluation for a while; gradients flow all the same.

    >>> network = nn.Dropout()
    >>> with evaluating(network):
    ...     network.training
    False
    >>> network.training
    True
    """
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def generator_of(model: nn.Module) -> nn.Module:
    """The network that generates in evaluation: ``average``, the moving average, or without one ``generator``."""
    average: AveragedModel | None = model.average  # type: ignore[assignment]  # a module's attributes are untyped
    network: nn.Module = model.generator if average is None else average.module  # type: ignore[assignment]  # as above
    return network
