"""Deep semi-supervised anomaly detection as an anomalib model."""

from __future__ import annotations

import logging
from typing import Any

import torch
from anomalib.data import ImageBatch
from anomalib.models import AnomalibModule
from torch import Tensor

from anomalib_xray.data.dataset import Draw, RadiographDataset
from anomalib_xray.errors import XrayError
from anomalib_xray.training.callbacks import feature_spread
from anomalib_xray.transforms.augmentation import augmentation_of
from anomalib_xray_plugins.deep_svdd.loss import squared_distance
from anomalib_xray_plugins.deep_svdd.sphere_model import SphereModel

logger = logging.getLogger(__name__)

EPSILON = 1e-6
"""Added to a squared distance before it divides, as in the published code."""


class DeepSad(SphereModel, AnomalibModule):
    """Deep semi-supervised anomaly detection: codes of normal radiographs go to a centre, abnormal ones away from it.

    The abnormal radiographs are the ``labelled_data`` of the datamodule, a share ``labelled_abnormal`` of the abnormal
    patients; without them this is ``DeepSvdd`` with a hard boundary. A model that saw labels is no rival of those that
    did not: reports list it apart. Source: Ruff et al. 2020, "Deep Semi-Supervised Anomaly Detection" (1906.02694).

    Network, centre, score and pre-training are those of ``DeepSvdd``; the centre and pre-training see normal images
    only.

    Args:
        eta: Weight of a labelled image beside a normal one, above 0; 1 as published.

    Raises:
        XrayError: A weight that is not above 0, or a setting that ``DeepSvdd`` does not have either.

    Example:
        >>> DeepSad(image_size=64, width=4).scores
        ('svdd',)
    """

    uses_labels = True

    def __init__(self, eta: float = 1.0, **settings: Any) -> None:
        super().__init__(**settings)
        if not eta > 0:
            msg = f"eta is {eta}, but it is the weight of a labelled image and above 0; take 1, or DeepSvdd."
            raise XrayError(msg)
        self.eta = eta

    @property
    def labelled(self) -> RadiographDataset | None:
        """Labelled abnormal images of the training that is under way."""
        return getattr(getattr(self.trainer, "datamodule", None), "labelled_data", None)

    def on_fit_start(self) -> None:
        """Says so if there are no labelled images."""
        super().on_fit_start()
        if self.labelled is None:
            logger.warning(
                "There are no labelled abnormal images, so that this is DeepSvdd: set labelled_abnormal of the "
                "datamodule, for example to 0.1."
            )

    def sphere_loss(self, batch: ImageBatch) -> Tensor:
        """The loss of a batch of normal images and of labelled ones, which are drawn as often as the data has them."""
        assert batch.image is not None  # anomalib's fields are optional, its loaders fill this one
        images, number, share = batch.image.as_subclass(Tensor), len(batch.image), 0.0
        if self.labelled is not None:
            normal = len(self.trainer.train_dataloader.dataset)  # type: ignore[union-attr]  # a loader of our datamodule
            share = len(self.labelled) / (len(self.labelled) + normal)
            count = max(1, round(number * share / (1 - share)))
            images = torch.cat([images, self._draw(self.labelled, count)])
        codes: Tensor = self.model(images)
        distance = squared_distance(codes, self.model.center)
        loss = sad_loss(distance[:number], distance[number:], self.eta, share)
        losses = {"loss": loss, "distance": distance[:number].mean()}
        if len(distance) > number:
            losses["labelled_distance"] = distance[number:].mean()
        if number > 1:
            losses["feature_spread"] = feature_spread(codes[:number])
        self.log_losses(losses, number)
        return loss

    def _draw(self, data: RadiographDataset, count: int) -> Tensor:
        """Pre-processed labelled images ``(count, 3, S, S)``; which ones follows from the step."""
        step = int(torch.randint(2**31 - 1, ())) if self.seed is None else self.seed * 1_000_003 + self.global_step
        source = torch.Generator().manual_seed(step)
        chosen = torch.randint(len(data), (count,), generator=source).tolist()
        seeds = torch.randint(2**63 - 1, (count,), generator=source).tolist()
        items = [data[Draw(index, seed)].image for index, seed in zip(chosen, seeds, strict=True)]
        images = torch.stack([torch.as_tensor(image).as_subclass(Tensor) for image in items]).to(self.device)
        if self.pre_processor:
            images = self.pre_processor(images)
        augmentation = augmentation_of(data)
        return images if augmentation is None else augmentation.vary_brightness(images)


def sad_loss(normal: Tensor, labelled: Tensor, eta: float, share: float) -> Tensor:
    """Loss that training lowers (equation 8 of the source).

    ``(sum_i d_i^2 + eta sum_j 1 / (d_j^2 + epsilon)) / (n + m)`` over n normal and m labelled abnormal images, each
    sum estimated by the mean of a batch, whatever the batch's own proportion.

    Args:
        normal: Squared distances of normal images from the centre, ``(B,)``.
        labelled: Those of labelled abnormal images, ``(K,)``; may be empty.
        eta: Weight of a labelled image.
        share: m / (n + m).

    Returns:
        Scalar.

    >>> round(float(sad_loss(torch.tensor([1.0, 3.0]), torch.tensor([0.5]), eta=2.0, share=0.25)), 4)
    2.5
    """
    loss = (1 - share) * normal.mean()
    return loss + share * eta * (labelled + EPSILON).reciprocal().mean() if len(labelled) else loss
