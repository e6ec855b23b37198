"""Feature autoencoder as an anomalib model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from anomalib.data import ImageBatch
from anomalib.models import AnomalibModule
from torch import Tensor

from anomalib_xray.errors import XrayError
from anomalib_xray.training.radiograph_model import PRETRAINED_SIZES
from anomalib_xray.training.reconstruction_model import MapModel
from anomalib_xray.training.trained_model import TrainedModel
from anomalib_xray_plugins.feature_ae.loss import FeatureLoss
from anomalib_xray_plugins.feature_ae.torch_model import SCORES, FeatureAeModel


class FeatureAe(MapModel, TrainedModel, AnomalibModule):
    """Autoencoder of a frozen network's features: of structures and not of grey levels.

    An anomaly as bright as its surroundings has small errors in the image, and other features. Sources: Meissen et al.
    2022 (2208.10992), with ``loss`` ``ssim``; Shi et al. 2020 (2012.07122), with ``mse``.

    Args:
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        backbone: Network of timm whose features are reconstructed, convolutional or a vision transformer; it is not
            trained.
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
        weight_decay: Weight decay of Adam.

    Raises:
        XrayError: A setting that the model does not have, or more levels than the feature map has room for.

    Example:
        >>> FeatureAe(backbone="test_resnet", loss="mse", score="feature_mse").scores[:4]
        ('feature_ssim', 'feature_ssim_top_k', 'feature_mse', 'feature_mse_top_k')
    """

    scores = SCORES
    image_sizes = PRETRAINED_SIZES

    def __init__(
        self,
        augmentation: Literal["default", "advanced"] | None = "advanced",
        backbone: str = "resnet18",
        weights: str | None = None,
        layers: Sequence[int] = (0, 1, 2),
        channels: Sequence[int] = (100, 150, 200),
        latent_channels: int = 300,
        standardized: bool = True,
        loss: FeatureLoss = "ssim",
        score: str = "feature_ssim_top_k",
        weight_decay: float = 0.0,
        **settings: Any,
    ) -> None:
        super().__init__(augmentation=augmentation, score=score, **settings)
        if loss not in get_args(FeatureLoss):
            msg = f"loss is {loss!r}, but {self.name} knows {', '.join(get_args(FeatureLoss))}; choose one of them."
            raise XrayError(msg)
        self.weights, self.feature_loss, self.weight_decay = weights, loss, weight_decay
        self.model: FeatureAeModel = FeatureAeModel(
            backbone,
            layers,
            channels,
            latent_channels,
            standardized,
            score,
            self.top_k,
            self.map_sigma,
            self.image_size,
        )
        check_levels(len(channels) + 1, self.image_size // self.model.features.reduction)

    def on_fit_start(self) -> None:
        """Reads the backbone's weights, unless a checkpoint brought them."""
        super().on_fit_start()
        self.model.features.backbone.prepare(self.weights)

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:
        """Lowers the error of the reconstructed features."""
        image = self.grey(batch)
        loss = self.model.loss(image, self.feature_loss)
        self.log_losses({"loss": loss}, len(image))
        return loss


def check_levels(levels: int, side: int) -> None:
    """Refuses levels that leave less than 2 x 2 places, over which a single image's features are normalised.

    Nor do levels halve an odd side: they would not double back to it.
    """
    most = 0
    while side % 2 ** (most + 1) == 0 and side >> (most + 1) >= 2:
        most += 1
    if levels > most:
        msg = (
            f"channels and latent_channels make {levels} levels, but a feature map of {side} x {side} has room for "
            f"{most}; give fewer channels, lower layers or a larger image_size."
        )
        raise XrayError(msg)
