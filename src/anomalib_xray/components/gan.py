"""What models with an adversarial loss share: players that take turns, averages, samples, and who watches them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback
from torch import Tensor, nn, optim

from anomalib_xray.components.attention_maps import attention_maps, has_attention
from anomalib_xray.components.gan_monitor import GanMonitor
from anomalib_xray.components.radiograph_model import RadiographModel
from anomalib_xray.components.sagan import to_unit_range
from anomalib_xray.errors import XrayError

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule
    from torch.optim.swa_utils import AveragedModel
else:
    AnomalibModule = object

SAMPLES = 32
"""Number of samples from fixed codes that are shown and watched."""


class GanModel(RadiographModel, AnomalibModule):
    """Mixin of a plugin whose networks train against each other: ``class Dcgan(GanModel, AnomalibModule)``.

    The constructor calls :meth:`start` and builds ``self.model``, whose ``generator`` maps codes ``(N, Z)`` to images
    ``(N, 1, S, S)`` in (-1, 1); its ``average`` is the generator's moving average or ``None``. It has the arguments
    ``latent_size``, ``betas`` and ``schedule`` besides those of :class:`RadiographModel`. The plugin says who plays
    (:meth:`players`) and writes the training step from :meth:`turn_of`, :meth:`update` and :meth:`end_of_step`:

        self.turn_of("generator")
        loss = ...
        self.update("generator", loss)

    Every player is updated on a forward pass of its own through the current weights of the others.
    """

    fixed_codes: Tensor

    def start(self, scores: Sequence[str]) -> None:
        """As :meth:`RadiographModel.start`; optimisers are then stepped by hand.

        Args:
            scores: Names of the scores that the model computes.
        """
        super().start(scores)
        self.automatic_optimization = False
        self.register_buffer("fixed_codes", torch.randn(SAMPLES, self.hparams["latent_size"]))

    def players(self) -> dict[str, tuple[Sequence[nn.Module], float]]:
        """Who plays: the networks and the learning rate of each player, by name, in the order of their optimisers."""
        raise NotImplementedError

    def configure_optimizers(self) -> Any:  # noqa: ANN401  # Lightning's union of forms
        """Adam for each player, with the schedule of the settings."""
        return [
            self.with_schedule(
                optim.Adam(
                    [weight for network in networks for weight in network.parameters()],
                    lr=rate,
                    betas=tuple(self.hparams["betas"]),
                )
            )
            for networks, rate in self.players().values()
        ]

    def configure_callbacks(self) -> list[Callback]:
        """Those of every model, and one that reports collapsed generators and dead discriminators."""
        return [*super().configure_callbacks(), GanMonitor()]

    def plays(self) -> bool:
        """Whether the current epoch's steps end with :meth:`end_of_step`; a model with other epochs overrides it."""
        return True

    def turn_of(self, player: str) -> None:
        """Lets gradients into one player's weights only.

        Args:
            player: Its name.
        """
        for name, (networks, _) in self.players().items():
            for network in networks:
                network.requires_grad_(name == player)

    def update(self, player: str, loss: Tensor) -> None:
        """One step of the player whose turn it is.

        Args:
            player: Its name.
            loss: Its loss.
        """
        optimizer = self._optimizers()[list(self.players()).index(player)]
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def end_of_step(self, losses: Mapping[str, Tensor], real: Tensor, fake: Tensor, batch_size: int) -> None:
        """Ends a training step: average, learning rates, log.

        Args:
            losses: Losses by name, as :meth:`log_losses` takes them.
            real: Discriminator's logits of real images.
            fake: Discriminator's logits of generated ones.
            batch_size: Number of images in the batch.
        """
        average: AveragedModel | None = self.model.average  # type: ignore[assignment]  # a module's attributes are untyped
        if average is not None:
            generator: nn.Module = self.model.generator  # type: ignore[assignment]  # as above
            average.update_parameters(generator)
        self.step_schedules()
        self.log_losses({**losses, "real_logit": real.mean(), "sample_logit": fake.mean()}, batch_size)

    def step_schedules(self) -> None:
        """Lowers learning rates after an epoch's last batch: checkpoints of the epoch are written after that."""
        schedulers = self._schedulers()
        if schedulers and self.trainer.is_last_batch:
            for scheduler in schedulers:
                scheduler.step()  # type: ignore[call-arg]  # none of ours takes a metric

    def on_train_epoch_end(self) -> None:
        """Hands all weights back as trainable."""
        for networks, _ in self.players().values():
            for network in networks:
                network.requires_grad_(True)

    @torch.no_grad()
    def samples(self) -> Tensor:
        """Images from fixed codes, ``(32, 1, S, S)`` in [0, 1], as evaluation generates them."""
        network = generator_of(self.model)
        with evaluating(network):
            return to_unit_range(network(self.fixed_codes))

    def to_onnx(self, *args: Any, **kwargs: Any) -> Path:  # type: ignore[override]  # noqa: ANN401  # anomalib's signature, which differs from Lightning's
        """Exports to ONNX; arguments as anomalib's.

        Raises:
            XrayError: The anomaly map needs a gradient.
        """
        self._check_exportable()
        return Path(super().to_onnx(*args, **kwargs))

    def to_openvino(self, *args: Any, **kwargs: Any) -> Path:  # noqa: ANN401  # as above
        """Exports to OpenVINO; arguments as anomalib's.

        Raises:
            XrayError: The anomaly map needs a gradient.
        """
        self._check_exportable()
        return Path(super().to_openvino(*args, **kwargs))

    def _check_exportable(self) -> None:
        """Refuses to export a map that needs a gradient, before anything is written."""
        if self.hparams.get("anomaly_map") == "grad_cam":
            msg = (
                f"{self.name} with anomaly_map: grad_cam is not exported, because an exported model computes no "
                "gradient; load its checkpoint with the model's usual anomaly_map and export that (docs/explain.md)."
            )
            raise XrayError(msg)

    def pictures(self, image: Tensor) -> dict[str, Tensor]:
        """Samples from fixed codes, and the attention maps of each self-attention layer.

        The latter are three rows: images, what their pixel of the highest anomaly attends to, and how much attention
        every position receives.
        """
        maps = attention_maps(self.model, image.expand(-1, 3, -1, -1)).layers if has_attention(self.model) else {}
        rows = {f"attention_{name}": torch.cat([image, *layer]) for name, layer in maps.items()}
        return {"samples": self.samples(), **rows}


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Lets a network compute as in evaluation for a while; gradients flow all the same.

    Args:
        network: The network.
    """
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def generator_of(model: nn.Module) -> nn.Module:
    """The network that generates in evaluation: the generator's moving average, or without one the generator.

    Args:
        model: A module with ``generator`` and ``average``.
    """
    average: AveragedModel | None = model.average  # type: ignore[assignment]  # a module's attributes are untyped
    network: nn.Module = model.generator if average is None else average.module  # type: ignore[assignment]  # as above
    return network
