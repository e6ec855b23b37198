"""Autoencoder with a short code as an anomalib model."""

from __future__ import annotations

from typing import Any

from anomalib.models import AnomalibModule

from anomalib_xray.training.fc_autoencoder_model import FcAutoencoderModel


class ReconstructionAe(FcAutoencoderModel, AnomalibModule):
    """Autoencoder whose code is a short vector, trained on normal radiographs with a mean squared error.

    It is the plain network of dual-distribution ensembles. Source: Cai et al. 2022 (2206.03935), section 2.3.

    Example:
        >>> ReconstructionAe(width=4, score="l1_top_k").score
        'l1_top_k'
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.build()
