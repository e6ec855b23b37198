"""DCGAN as an anomalib model."""

from __future__ import annotations

from typing import Any, Literal

from anomalib.models import AnomalibModule

from anomalib_xray_plugins.dcgan.torch_model import SCORES, DcganModel
from anomalib_xray_plugins.dcgan.training import PairTraining


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
        self.model = DcganModel(
            *self.networks, references, score, self.top_k, self.map_sigma, anomaly_map, self.adversarial_loss
        )
