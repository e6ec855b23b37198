"""Convolutional autoencoder as an anomalib model."""

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
from anomalib_xray_plugins.cae.torch_model import CaeModel, Output

SCORES = (*RECONSTRUCTION_SCORES, *EXTRA_SCORES)
"""Scores that the model can compute."""

LEVELS_AT_MOST = 5
"""Halvings that leave a bottleneck of 2 x 2 at the smallest image size."""


class Cae(RadiographModel, AnomalibModule):
    """Convolutional autoencoder trained on normal radiographs with a masked mean squared error.

    What it cannot reconstruct is unusual. Source: arXiv 2001.10883, section 3.

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        equalize: Whether the foreground's histogram is equalised.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        width: Channels of the first level; every level doubles them.
        latent_channels: Channels of the bottleneck.
        levels: Halvings between the image and the bottleneck, 1 to 5; 5 as published.
        output: Last activation: ``sigmoid``, or ``relu_tanh`` as published.
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
        self.start(SCORES)
        if not 1 <= levels <= LEVELS_AT_MOST:
            msg = f"levels is {levels}, but an autoencoder of radiographs has 1 to {LEVELS_AT_MOST}."
            raise XrayError(msg)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.model: CaeModel = CaeModel(
            width, latent_channels, levels, output, ReconstructionScorer(score, top_k, map_sigma, extra_scores)
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
