"""DCGAN as an anomalib model."""

from __future__ import annotations

from typing import Any, Literal

import torch
from anomalib.models import AnomalibModule

from anomalib_xray.errors import XrayError
from anomalib_xray_plugins.dcgan.torch_model import SCORES, DcganModel
from anomalib_xray_plugins.dcgan.training import PairTraining

REFERENCE_PIXELS = 2**25
"""Pixels of the training images that features are stored of: 2048 images of 128 x 128, 128 of 512 x 512."""


class Dcgan(PairTraining, AnomalibModule):
    """DCGAN: a generative adversarial network trained on normal radiographs, whose discriminator finds anomalies.

    It does not reconstruct. An image is unusual if the discriminator does not take it for real, or if some of the
    discriminator's features are far from all that it saw in training images; the latter shows where.

    Source: Radford et al. 2016 (1511.06434), as used in arXiv 2001.10883, section 3; the distance of features is not
    part of it. Minibatch discrimination looks at one image's features at a time; the original glues four images
    together.

    Args:
        references: Number of features of training images that features are compared with.
        score: Score that becomes the predicted score: ``discriminator``, ``feature_distance`` or
            ``feature_distance_top_k``.
        anomaly_map: What the anomaly map shows: the ``feature_distance`` at each pixel, or ``grad_cam``, where the
            discriminator sees that the image is not real; the latter cannot be exported.

    Raises:
        XrayError: No stored feature.

    Example:
        >>> Dcgan(image_size=64, latent_size=8).scores
        ('discriminator', 'feature_distance', 'feature_distance_top_k')
    """

    model: DcganModel
    scores = SCORES

    def __init__(
        self,
        references: int = 16384,
        score: str = "feature_distance_top_k",
        anomaly_map: Literal["feature_distance", "grad_cam"] = "feature_distance",
        **settings: Any,
    ) -> None:
        super().__init__(score=score, **settings)
        if references < 1:
            msg = f"references is {references}, but features are compared with at least 1 stored one."
            raise XrayError(msg)
        self.model = DcganModel(
            *self.networks, references, score, self.top_k, self.map_sigma, anomaly_map, self.adversarial_loss
        )

    @property
    def kept_images(self) -> int:
        """As many as features are chosen out of, which is more than minibatch discrimination stores."""
        return int(REFERENCE_PIXELS // self.image_size**2)

    def remember(self) -> None:
        """Stores features for the distance as well."""
        super().remember()
        if self.seen:
            generator = torch.Generator().manual_seed(self.seed or 0)
            self.model.remember(torch.cat(self.seen), generator)
