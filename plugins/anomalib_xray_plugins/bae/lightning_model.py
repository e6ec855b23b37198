"""Bottleneck autoencoder as an anomalib model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.visualization import Visualizer
from torch import nn

from anomalib_xray.components import AutoencoderLoss, AutoencoderModel, NoiseKind, Schedule
from anomalib_xray.errors import XrayError
from anomalib_xray_plugins.bae.torch_model import Activation, BaeModel, Output, reduction


class Bae(AutoencoderModel, AnomalibModule):
    """Bottleneck autoencoder trained on normal radiographs with a masked error, the squared one as published.

    Each level convolves and max-pools, so that a few levels reach a narrow code. Source: arXiv 2001.10883, section 3.

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        equalize: Whether the foreground's histogram is equalised.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        width: Channels of the first level; every level doubles them.
        latent_channels: Channels of the code.
        levels: Levels of the encoder, at least 2, each of them pooled 2x2. 3 of stride 1 or 2 of stride 2 leave a code
            of an eighth of the side; 5 of stride 2 leave one place of 512 pixels, as published.
        stride: Stride of the convolutions but the first: 2 as published, or 1, which reconstructs more sharply.
        code_padding: Padding around the code, 0, or 1 as published: then a border without content.
        skip: Whether the decoder sees the last two encoder levels beside the code. It then also sees anomalies, and
            reconstructs them better.
        activation: Activation between layers: ``relu`` or ``tanh``.
        output: Last activation: ``sigmoid``, or ``tanh`` as published with skip connections.
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
        XrayError: An image size or score that the model does not have, or more levels than the image has room for.
    """

    def __init__(
        self,
        image_size: int = 128,
        equalize: bool = False,
        augmentation: Literal["default", "advanced"] | None = "advanced",
        width: int = 16,
        latent_channels: int = 16,
        levels: int = 3,
        stride: Literal[1, 2] = 1,
        code_padding: int = 0,
        skip: bool = False,
        activation: Activation = "relu",
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
        learning_rate: float = 2e-3,
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
        check_levels(levels, stride, image_size)
        if code_padding not in (0, 1):
            msg = f"code_padding is {code_padding}, but the code has no border or one: choose 0, or 1 as published."
            raise XrayError(msg)
        self.model: BaeModel = BaeModel(
            width,
            latent_channels,
            levels,
            stride,
            code_padding,
            skip,
            activation,
            output,
            self.make_scorer(),
        )


def check_levels(levels: int, stride: int, image_size: int) -> None:
    """Refuses levels that leave less than one place for the code.

    Args:
        levels: Levels of the encoder.
        stride: Stride of its convolutions but the first.
        image_size: Side of the images.

    Raises:
        XrayError: Another stride than 1 and 2, less than 2 levels, or more than the image has room for.
    """
    if stride not in (1, 2):
        msg = f"stride is {stride}, but a bottleneck autoencoder convolves with 1 or 2; choose one of them."
        raise XrayError(msg)
    most = max(count for count in range(2, 10) if reduction(count, stride) <= image_size)
    if not 2 <= levels <= most:
        msg = (
            f"levels is {levels}, but at {image_size} pixels and stride {stride} there is room for 2 to {most}; choose "
            "one of them."
        )
        raise XrayError(msg)
