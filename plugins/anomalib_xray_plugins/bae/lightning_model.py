"""Bottleneck autoencoder as an anomalib model."""

from __future__ import annotations

from typing import Any, Literal

from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.visualization import Visualizer
from torch import Tensor, nn, optim

from anomalib_xray.components import RadiographModel, Schedule, masked_mse_loss
from anomalib_xray.errors import XrayError
from anomalib_xray.scores import EXTRA_SCORES, RECONSTRUCTION_SCORES, ReconstructionScorer, foreground
from anomalib_xray_plugins.bae.torch_model import Activation, BaeModel, Output, reduction

SCORES = (*RECONSTRUCTION_SCORES, *EXTRA_SCORES)
"""Scores that the model can compute."""


class Bae(RadiographModel, AnomalibModule):
    """Bottleneck autoencoder trained on normal radiographs with a masked mean squared error.

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
        score: Score that becomes the predicted score: ``mse``, ``l1``, ``smooth_l1``, ``ssim`` or ``gradient``, each
            also with ``_top_k``.
        extra_scores: Errors whose scores are computed besides: ``ssim``, ``gradient``.
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
        self.start(SCORES)
        check_levels(levels, stride, image_size)
        if code_padding not in (0, 1):
            msg = f"code_padding is {code_padding}, but the code has no border or one: choose 0, or 1 as published."
            raise XrayError(msg)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.model: BaeModel = BaeModel(
            width,
            latent_channels,
            levels,
            stride,
            code_padding,
            skip,
            activation,
            output,
            ReconstructionScorer(score, top_k, map_sigma, extra_scores),
        )

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:  # noqa: ANN401
        """Lowers the masked mean squared error."""
        image = self.grey(batch)
        loss = masked_mse_loss(self.model(batch.image), image, foreground(image))
        self.log_losses({"loss": loss}, len(image))
        return loss

    def pictures(self, image: Tensor) -> dict[str, Tensor]:
        """Images and their reconstructions, in turn by rows."""
        return self.reconstruction_rows(image, self.model.reconstruct(image))

    def configure_optimizers(self) -> Any:  # noqa: ANN401  # Lightning's union of forms
        """Adam, with the schedule of the settings."""
        return self.with_schedule(optim.Adam(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay))


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
