"""Feature autoencoder as an anomalib model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.visualization import Visualizer
from torch import Tensor, nn, optim

from anomalib_xray.components import RadiographModel, Schedule
from anomalib_xray.errors import XrayError
from anomalib_xray_plugins.feature_ae.loss import FeatureLoss
from anomalib_xray_plugins.feature_ae.torch_model import SCORES, FeatureAeModel


class FeatureAe(RadiographModel, AnomalibModule):
    """Autoencoder of a frozen network's features: of structures and not of grey levels.

    An anomaly as bright as its surroundings has small errors in the image, and other features. Sources: Meissen et al.
    2022 (2208.10992), with ``loss`` ``ssim``; Shi et al. 2020 (2012.07122), with ``mse``.

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        equalize: Whether the foreground's histogram is equalised.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        backbone: Convolutional network of timm whose features are reconstructed; it is not trained.
        weights: File with weights of the backbone, read when training starts; none leaves them random.
        layers: Which of its feature maps are put together, in rising order from 0.
        channels: Channels of the encoder's levels but the last; each level halves the feature map's side.
        latent_channels: Channels of the last level, the code.
        standardized: Whether each feature is scaled by its mean and deviation over the training images; not as
            published.
        loss: Error of the features that training lowers: ``ssim`` (structural dissimilarity of each feature's map),
            ``mse``, or ``cosine`` (angle between the vectors of a place).
        score: Score that becomes the predicted score: ``feature_ssim``, ``feature_mse`` or ``feature_cosine``, each
            also with ``_top_k``.
        top_k: Pixels of the top-k scores: a number, or a fraction of the foreground if below 1.
        map_sigma: Smoothing of the anomaly map, in pixels of the network's input.
        learning_rate: Learning rate of Adam.
        weight_decay: Weight decay of Adam.
        schedule: Learning rate over the training: ``constant``, ``linear``, ``cosine`` or ``exponential``.
        seed: Seed of weights, shuffling and augmentation; none leaves them random.
        pre_processor: Pre-processor, or whether to use the default one.
        post_processor: Post-processor, or whether to use the default one.
        evaluator: Evaluator, or whether to use the default one.
        visualizer: Visualizer, or whether to use the default one.

    Raises:
        XrayError: A setting that the model does not have, or more levels than the feature map has room for.
    """

    def __init__(
        self,
        image_size: int = 128,
        equalize: bool = False,
        augmentation: Literal["default", "advanced"] | None = "advanced",
        backbone: str = "resnet18",
        weights: str | None = None,
        layers: Sequence[int] = (0, 1, 2),
        channels: Sequence[int] = (100, 150, 200),
        latent_channels: int = 300,
        standardized: bool = True,
        loss: FeatureLoss = "ssim",
        score: str = "feature_ssim_top_k",
        top_k: float = 0.03,
        map_sigma: float = 1.0,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
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
        if loss not in get_args(FeatureLoss):
            msg = f"loss is {loss!r}, but {self.name} knows {', '.join(get_args(FeatureLoss))}; choose one of them."
            raise XrayError(msg)
        self.model: FeatureAeModel = FeatureAeModel(
            backbone, layers, channels, latent_channels, standardized, score, top_k, map_sigma
        )
        check_levels(len(channels) + 1, image_size // self.model.features.reduction)

    def on_fit_start(self) -> None:
        """Reads the backbone's weights, unless a checkpoint brought them."""
        super().on_fit_start()
        self.model.features.backbone.prepare(self.hparams["weights"])

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:  # noqa: ANN401
        """Lowers the error of the reconstructed features."""
        image = self.grey(batch)
        loss = self.model.loss(image, self.hparams["loss"])
        self.log_losses({"loss": loss}, len(image))
        return loss

    def configure_optimizers(self) -> Any:  # noqa: ANN401  # Lightning's union of forms
        """Adam on the autoencoder, with the schedule of the settings."""
        trained = [*self.model.encoder.parameters(), *self.model.decoder.parameters()]
        settings = self.hparams
        return self.with_schedule(
            optim.Adam(trained, lr=settings["learning_rate"], weight_decay=settings["weight_decay"])
        )


def check_levels(levels: int, side: int) -> None:
    """Refuses levels that leave less than 2 x 2 places, over which a single image's features are normalised.

    Args:
        levels: Halvings of the feature map's side.
        side: Side of the feature map.

    Raises:
        XrayError: There are more levels than the map has room for.
    """
    most = max(side.bit_length() - 2, 0)  # side is a power of two
    if levels > most:
        msg = (
            f"channels and latent_channels make {levels} levels, but a feature map of {side} x {side} has room for "
            f"{most}; give fewer channels, lower layers or a larger image_size."
        )
        raise XrayError(msg)
