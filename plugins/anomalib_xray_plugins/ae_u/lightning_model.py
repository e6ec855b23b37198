"""Autoencoder with a predicted uncertainty as an anomalib model."""

from __future__ import annotations

from typing import Any

from anomalib.models import AnomalibModule

from anomalib_xray.scores import EXTRA_SCORES, RECONSTRUCTION_SCORES
from anomalib_xray.training.fc_autoencoder_model import WEIGHTED_SCORES, FcAutoencoderModel


class AeU(FcAutoencoderModel, AnomalibModule):
    """Autoencoder that also predicts the variance of each pixel, trained on normal radiographs.

    The loss is the likelihood of the image under a normal distribution; errors where the image is hard to foresee, such
    as at edges, count less. Sources: Mao et al. 2020, "Abnormality detection in chest X-ray images using uncertainty
    prediction autoencoders"; as a network of dual-distribution ensembles Cai et al. 2022 (2206.03935).

    Args:
        score: Score that becomes the predicted score: ``rec`` (the squared error over the predicted variance), ``mse``,
            ``l1``, ``smooth_l1``, ``ssim`` or ``gradient``, each also with ``_top_k``.

    Example:
        >>> AeU(width=4, latent_size=8).score
        'rec'
    """

    scores = (*RECONSTRUCTION_SCORES, *WEIGHTED_SCORES, *EXTRA_SCORES)

    def __init__(self, score: str = "rec", **settings: Any) -> None:
        super().__init__(score=score, **settings)
        self.build(uncertainty=True)
