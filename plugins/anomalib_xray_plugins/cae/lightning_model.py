"""Convolutional autoencoder as an anomalib model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.visualization import Visualizer
from torch import nn

from anomalib_xray.components import AutoencoderLoss, AutoencoderModel, NoiseKind, Schedule
from anomalib_xray.errors import XrayError
from anomalib_xray_plugins.cae.torch_model import CaeModel, Output

LEVELS_AT_MOST = 5
"""Halvings that leave a bottleneck of 2 x 2 at the smallest image size."""


class Cae(AutoencoderModel, AnomalibModule):
    """Convolutional autoencoder trained on normal radiographs with a masked error, the squared one as published.

    What it cannot reconstruct is unusual. Source: arXiv 2001.10883, section 3.

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        equalize: Whether the foreground's histogram is equalised.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        width: Channels of the first level; every level doubles them.
        latent_channels: Channels of the bottleneck.
        levels: Halvings between the image and the bottleneck, 1 to 5; 5 as published.
        output: Last activation: ``sigmoid``, or ``relu_tanh`` as published.
        reconstruction_loss: Error that training lowers: ``mse``, ``l1``, ``smooth_l1``, ``ssim`` (1 - SSIM), or
            ``perceptual``, the relative difference of a frozen backbone's features.
        perceptual_backbone: Network of timm whose features the loss or score ``perceptual`` compares.
        perceptual_layers: Which of its feature maps, in rising order from 0.
        perceptual_weights: File with weights of this network, read when training starts; none leaves them random.
        noise: Standard deviation of the noise on the foreground of what the network sees in training, in units of the
            image's range; 0 for none. The target stays clean.
        noise_kind: ``coarse``, drawn on 16 x 16 points and upsampled, or ``pixel``.
        score: Score that becomes the predicted score: ``mse``, ``l1``, ``smooth_l1``, ``ssim``, ``gradient`` or
            ``perceptual``, each also with ``_top_k``.
        extra_scores: Errors whose scores are computed besides: ``ssim``, ``gradient``, ``perceptual``.
        top_k: Pixels of the top-k scores: a number, or a fraction of the foreground if below 1.
        map_sigma: Smoothing of the anomaly map, in pixels of the network's input.
        learning_rate: Learning rate of Adam.
        weight_decay: Weight decay of Adam.
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
        image_size: int = 128,
        equalize: bool = False,
        augmentation: Literal["default", "advanced"] | None = "advanced",
        width: int = 16,
        latent_channels: int = 512,
        levels: int = 5,
        output: Output = "sigmoid",
        reconstruction_loss: AutoencoderLoss = "mse",
        perceptual_backbone: str = "resnet18",
        perceptual_layers: Sequence[int] = (1, 2, 3),
        perceptual_weights: str | None = None,
        noise: float = 0.0,
        noise_kind: NoiseKind = "coarse",
        score: str = "mse_top_k",
        extra_scores: list[str] | None = None,
        top_k: float = 0.03,
        map_sigma: float = 1.0,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
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
        self.start()
        if not 1 <= levels <= LEVELS_AT_MOST:
            msg = f"levels is {levels}, but an autoencoder of radiographs has 1 to {LEVELS_AT_MOST}."
            raise XrayError(msg)
        self.model: CaeModel = CaeModel(width, latent_channels, levels, output, self.make_scorer())
