"""Autoencoder with a memory of normal codes as an anomalib model."""

from __future__ import annotations

from typing import Any

from anomalib.models import AnomalibModule

from anomalib_xray.networks.memory import Addressing, Memory
from anomalib_xray.training.fc_autoencoder_model import FcAutoencoderModel


class MemAe(FcAutoencoderModel, AnomalibModule):
    """Autoencoder that decodes mixtures of remembered normal codes only, trained on normal radiographs.

    Sources: Gong et al. 2019, "Memorizing normality to detect anomaly" (1904.02639); as a network of dual-distribution
    ensembles Cai et al. 2022 (2206.03935).

    Args:
        memory_items: Number of remembered codes.
        addressing: Similarity of code and item: ``dot`` product, or ``cosine`` as in 1904.02639.
        memory_shrink: Weights of items up to this are set to 0; none if 0. Less than 1, with ``cosine`` than
            ``1 / memory_items``.
        entropy_weight: Weight of the addressing's entropy in the loss.

    Raises:
        XrayError: A memory without items.

    Example:
        >>> MemAe(width=4, memory_items=10, addressing="cosine").score
        'mse_top_k'
    """

    def __init__(
        self,
        memory_items: int = 25,
        addressing: Addressing = "dot",
        memory_shrink: float = 0.0,
        entropy_weight: float = 2e-4,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.entropy_weight = entropy_weight
        self.build(memory=Memory(memory_items, self.latent_size, addressing, memory_shrink))
