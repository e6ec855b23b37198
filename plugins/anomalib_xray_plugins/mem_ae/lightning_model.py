"""Autoencoder with a memory of normal codes as an anomalib model."""

from __future__ import annotations

from typing import Literal

from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.visualization import Visualizer
from torch import nn

from anomalib_xray.components import Schedule
from anomalib_xray.components.fc_autoencoder import FcAutoencoder
from anomalib_xray.components.fc_autoencoder_model import FcAutoencoderModel, ScoredAutoencoder
from anomalib_xray.components.memory import Addressing, Memory
from anomalib_xray.scores import EXTRA_SCORES, RECONSTRUCTION_SCORES, ReconstructionScorer

SCORES = (*RECONSTRUCTION_SCORES, *EXTRA_SCORES)
"""Scores that the model can compute."""


class MemAe(FcAutoencoderModel, AnomalibModule):
    """Autoencoder that decodes mixtures of remembered normal codes only, trained on normal radiographs.

    Sources: Gong et al. 2019, "Memorizing normality to detect anomaly" (1904.02639); as a network of dual-distribution
    ensembles Cai et al. 2022 (2206.03935).

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        equalize: Whether the foreground's histogram is equalised.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        width: Channels of the first level; they double up to four times as many.
        hidden: Units of the hidden fully connected layers.
        latent_size: Length of the code.
        memory_items: Number of remembered codes.
        addressing: Similarity of code and item: ``dot`` product, or ``cosine`` as in 1904.02639.
        memory_shrink: Weights of items up to this are set to 0; none if 0. Less than 1, with ``cosine`` than
            ``1 / memory_items``.
        entropy_weight: Weight of the addressing's entropy in the loss.
        masked: Whether the loss counts the foreground only; not as published.
        score: Score that becomes the predicted score: ``mse``, ``l1``, ``smooth_l1``, ``ssim`` or ``gradient``, each
            also with ``_top_k``.
        extra_scores: Errors whose scores are computed besides: ``ssim``, ``gradient``.
        top_k: Pixels of the top-k scores: a number, or a fraction of the foreground if below 1.
        map_sigma: Smoothing of the anomaly map, in pixels of the network's input.
        learning_rate: Learning rate of Adam.
        betas: Coefficients of Adam.
        schedule: Learning rate over the training: ``constant``, ``linear``, ``cosine`` or ``exponential``.
        seed: Seed of weights, shuffling and augmentation; none leaves them random.
        pre_processor: Pre-processor, or whether to use the default one.
        post_processor: Post-processor, or whether to use the default one.
        evaluator: Evaluator, or whether to use the default one.
        visualizer: Visualizer, or whether to use the default one.

    Raises:
        XrayError: An image size or score that the model does not have, or a memory without items.
    """

    def __init__(
        self,
        image_size: int = 64,
        equalize: bool = False,
        augmentation: Literal["default", "advanced"] | None = None,
        width: int = 16,
        hidden: int = 2048,
        latent_size: int = 16,
        memory_items: int = 25,
        addressing: Addressing = "dot",
        memory_shrink: float = 0.0,
        entropy_weight: float = 2e-4,
        masked: bool = True,
        score: str = "mse_top_k",
        extra_scores: list[str] | None = None,
        top_k: float = 0.03,
        map_sigma: float = 1.0,
        learning_rate: float = 5e-4,
        betas: tuple[float, float] = (0.5, 0.999),
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
        memory = Memory(memory_items, latent_size, addressing, memory_shrink)
        network = FcAutoencoder(image_size, width, hidden, latent_size, memory=memory)
        self.model = ScoredAutoencoder(network, ReconstructionScorer(score, top_k, map_sigma, extra_scores))
