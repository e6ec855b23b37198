"""Models that draw the codes of normal images together around a fixed centre."""

from __future__ import annotations

from typing import Any

from anomalib.data import ImageBatch
from lightning.pytorch import Callback
from torch import Tensor, nn

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.losses import masked_mse_loss
from anomalib_xray.scores import foreground
from anomalib_xray.training.callbacks import CollapseMonitor
from anomalib_xray.training.trained_model import Phases, TrainedModel, check_share, make_adam
from anomalib_xray.training.training_images import training_images
from anomalib_xray_plugins.deep_svdd.torch_model import SCORES, BackboneEncoder, DeepSvddModel


class SphereModel(TrainedModel):
    """Mixin of ``DeepSvdd`` and ``DeepSad``: the network, its pre-training, and its centre.

    With ``pretrain_share`` the first epochs train the network as an autoencoder. Which is which follows from the epoch
    and ``trainer.max_epochs``; before the other epochs the scores mean nothing. Schedules run over each part's own
    epochs. A plugin gives the loss of the other epochs, :meth:`sphere_loss`.

    Args:
        width: Channels of the first level; the widest level has 4 times as many.
        code_size: Length of the code.
        backbone: A network of timm in place of the one that is trained from scratch. It is frozen, and
            a head without biases is trained on its standardised features; none for the network from scratch.
        weights: File with weights of the backbone; none leaves them random.
        backbone_layer: Which of the backbone's feature maps is pooled, from 0.
        pretrain_share: Share of the epochs, at the beginning, that train an autoencoder; 0 for none.
        score: Score that becomes the predicted score: ``svdd``.
        learning_rate: Learning rate of Adam.
        pretrain_learning_rate: Learning rate of Adam in pre-training.
        betas: Coefficients of Adam.
        weight_decay: Weight decay of Adam, in both parts.
        schedule: Learning rates over each part's own epochs: ``constant``, ``linear``, ``cosine`` or ``exponential``.

    Raises:
        XrayError: A backbone that there is not, a share out of range, or pre-training of a backbone.
    """

    model: DeepSvddModel
    scores = SCORES

    def __init__(
        self,
        width: int = 32,
        code_size: int = 128,
        backbone: str | None = None,
        weights: str | None = None,
        backbone_layer: int = 3,
        pretrain_share: float = 0.0,
        score: str = "svdd",
        learning_rate: float = 1e-4,
        pretrain_learning_rate: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 1e-6,
        **settings: Any,
    ) -> None:
        super().__init__(score=score, learning_rate=learning_rate, **settings)
        check_share("pretrain_share", pretrain_share, "no pre-training", 0.3)
        if backbone is not None and pretrain_share > 0:
            msg = (
                f"pretrain_share is {pretrain_share}, but a backbone is frozen; set pretrain_share: 0, or no backbone."
            )
            raise XrayError(msg)
        if backbone is None and weights is not None:
            msg = f"weights names {weights}, but there is no backbone to take them; set backbone too, or no weights."
            raise XrayError(msg)
        self.weights = weights
        self.pretrain_share, self.pretrain_learning_rate = pretrain_share, pretrain_learning_rate
        self.betas, self.weight_decay = betas, weight_decay
        # The two parts have an optimiser each, and a step uses one of them.
        self.automatic_optimization = False
        self.model = DeepSvddModel(
            self.image_size, width, code_size, pretrain_share > 0, backbone, backbone_layer, score
        )

    def configure_callbacks(self) -> list[Callback]:
        """Those of every model, and one that reports a collapse."""
        advice = "lower learning_rate, or train for fewer epochs"
        return [*super().configure_callbacks(), CollapseMonitor(advice)]

    def phases(self) -> Phases:
        """An autoencoder is trained, then codes are drawn together; only the latter where this is not divided."""
        if self.pretrain_share:
            self.check_end("pretrain_share", self.pretrain_share, "pretrain_share: 0")
        return Phases.by_share(self.pretrain_share, self.trainer.max_epochs)

    def configure_optimizers(self) -> Any:
        """Adam for the sphere and, where there is pre-training, for the autoencoder; schedules run over own epochs."""
        model = self.model
        parts: list[tuple[nn.Module, float, int]] = [(model.encoder, self.learning_rate, 1)]
        if model.decoder is not None:
            parts.append((nn.ModuleList([model.encoder, model.decoder]), self.pretrain_learning_rate, 0))
        optimizers = []
        for network, rate, part in parts:
            weights = [weight for weight in network.parameters() if weight.requires_grad]
            optimizer = make_adam(weights, rate, betas=self.betas, weight_decay=self.weight_decay)
            optimizers.append(self.with_schedule(optimizer, part))
        return optimizers

    def on_fit_start(self) -> None:
        """Reads the backbone's weights, unless a checkpoint had them."""
        super().on_fit_start()
        if isinstance(self.model.encoder, BackboneEncoder):
            self.model.encoder.backbone.prepare(self.weights)

    def pretrains(self) -> bool:
        """Whether the current epoch trains the autoencoder."""
        return self.phases().of(self.current_epoch) == 0

    def on_train_epoch_start(self) -> None:
        """Sets the centre before the first epoch that draws codes together."""
        if not self.pretrains() and not bool(self.model.has_center):
            self.model.set_center(lambda: (images.mean(1, keepdim=True) for images in training_images(self)))

    def training_step(self, batch: ImageBatch, *_: Any) -> None:
        """Lowers the distances from the centre, or in pre-training the error of the reconstructions."""
        image = self.grey(batch)
        if self.pretrains():
            loss = masked_mse_loss(self.model.reconstruct(image), image, foreground(image))
            self.log_losses({"pretraining_loss": loss}, len(image))
        else:
            loss = self.sphere_loss(batch)
        optimizer = self._optimizers()[int(self.pretrains())]
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        if self.trainer.is_last_batch:  # before the epoch's checkpoints are written
            self.end_epoch()

    def sphere_loss(self, batch: ImageBatch) -> Tensor:
        """The loss of a batch of normal images that training lowers, which it logs."""
        raise NotImplementedError

    def end_epoch(self) -> None:
        """Lowers the learning rate."""
        schedulers = self._schedulers()
        if schedulers:
            schedulers[int(self.pretrains())].step()  # type: ignore[call-arg]  # none of ours takes a metric

    def pictures(self, image: Tensor) -> dict[str, Tensor]:
        """In pre-training, images above their reconstructions."""
        if self._trainer is None or not self.pretrains():
            return {}
        return self.reconstruction_rows(image, self.model.reconstruct(image))
