"""Deep support vector data description as an anomalib model."""

from __future__ import annotations

from typing import Any

import torch
from anomalib.data import ImageBatch
from anomalib.models import AnomalibModule
from torch import Tensor

from anomalib_xray.errors import XrayError
from anomalib_xray.training.callbacks import feature_spread
from anomalib_xray_plugins.deep_svdd.loss import Boundary, enclosing_radius, squared_distance, svdd_loss
from anomalib_xray_plugins.deep_svdd.sphere_model import SphereModel


class DeepSvdd(SphereModel, AnomalibModule):
    """Deep support vector data description: codes of normal radiographs are drawn into a small sphere.

    The score is the squared distance from the sphere's centre; there is no map. Source: Ruff et al. 2018, "Deep
    One-Class Classification", ICML. The centre is the mean code of the training images when this training starts.

    Args:
        boundary: ``hard``, the mean squared distance, or ``soft``: a share ``nu`` may lie outside the sphere.
        nu: Share of the training images that may lie outside a soft boundary.
        radius_warmup: Epochs of a soft boundary in which the radius stays 0.

    Raises:
        XrayError: A backbone that there is not, a share out of range, or pre-training of a backbone.

    Example:
        >>> DeepSvdd(image_size=64, width=4, boundary="soft").scores
        ('svdd',)
    """

    def __init__(self, boundary: Boundary = "hard", nu: float = 0.1, radius_warmup: int = 10, **settings: Any) -> None:
        super().__init__(**settings)
        if not 0 < nu <= 1:
            msg = f"nu is {nu}, but it is a share of the images above 0 and up to 1; take for example 0.1."
            raise XrayError(msg)
        self.boundary, self.nu, self.radius_warmup = boundary, nu, radius_warmup
        self._distances: list[Tensor] = []

    def sphere_loss(self, batch: ImageBatch) -> Tensor:
        """The mean squared distance from the centre, or that of a soft boundary."""
        model = self.model
        codes: Tensor = model(batch.image)
        distance = squared_distance(codes, model.center)
        self._distances.append(distance.detach())
        loss = svdd_loss(distance, self.boundary, model.radius, self.nu)
        losses = {"loss": loss, "distance": distance.mean()}
        if len(codes) > 1:
            losses["feature_spread"] = feature_spread(codes)
        if self.boundary == "soft":
            losses["radius"] = model.radius
        self.log_losses(losses, len(codes))
        return loss

    def end_epoch(self) -> None:
        """Lowers the learning rate, and finds the radius that leaves a share ``nu`` of the epoch's images outside."""
        super().end_epoch()
        epoch = self.current_epoch - (self.phases().first or 0) + 1
        if self.boundary == "soft" and self._distances and epoch >= self.radius_warmup:
            self.model.radius.copy_(enclosing_radius(torch.cat(self._distances), self.nu))
        self._distances = []
