"""Autoencoder with a short code as an anomalib model."""

from __future__ import annotations

from typing import Literal

from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.visualization import Visualizer
from torch import nn

from anomalib_xray.components import Schedule
from anomalib_xray.components.fc_autoencoder import FcAutoencoder
from anomalib_xray.components.fc_autoencoder_model import FcAutoencoderModel, ScoredAutoencoder
from anomalib_xray.scores import EXTRA_SCORES, RECONSTRUCTION_SCORES, ReconstructionScorer

SCORES = (*RECONSTRUCTION_SCORES, *EXTRA_SCORES)
"""Scores that the model can compute."""


class ReconstructionAe(FcAutoencoderModel, AnomalibModule):
    """Autoencoder whose code is a short vector, trained on normal radiographs with a mean squared error.

    It is the plain network of dual-distribution ensembles. Source: Cai et al. 2022 (2206.03935), section 2.3.

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        equalize: Whether the foreground's histogram is equalised.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        width: Channels of the first level; they double up to four times as many.
        hidden: Units of the hidden fully connected layers.
        latent_size: Length of the code.
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
        XrayError: An image size or score that the model does not have.
    """

    def __init__(
        self,
        image_size: int = 64,
        equalize: bool = False,
        augmentation: Literal["default", "advanced"] | None = None,
        width: int = 16,
        hidden: int = 2048,
        latent_size: int = 16,
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
        network = FcAutoencoder(image_size, width, hidden, latent_size)
        self.model = ScoredAutoencoder(network, ReconstructionScorer(score, top_k, map_sigma, extra_scores))
