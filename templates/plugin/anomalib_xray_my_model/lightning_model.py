"""MyModel as an anomalib model."""

from __future__ import annotations

from typing import Any, Literal

from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.visualization import Visualizer
from torch import Tensor, nn, optim

from anomalib_xray.components import RadiographModel, masked_mse_loss
from anomalib_xray.scores import RECONSTRUCTION_SCORES, foreground
from anomalib_xray_my_model.torch_model import MyModelNetwork


# Change: the class, its settings and its docstring, which is also the help text of anomalib's command.
class MyModel(RadiographModel, AnomalibModule):
    """Linear autoencoder trained on normal radiographs; what it cannot reconstruct is unusual.

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        equalize: Whether the foreground's histogram is equalised.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        components: Length of the code.
        score: Score that becomes the predicted score: ``mse``, ``mse_top_k``, ``l1`` or ``l1_top_k``.
        top_k: Pixels of the top-k scores: a number, or a fraction of the foreground if below 1.
        map_sigma: Smoothing of the anomaly map, in pixels of the network's input.
        learning_rate: Learning rate of Adam.
        seed: Seed of weights, shuffling and augmentation; none leaves them random.
        pre_processor: Pre-processor, or whether to use the default one.
        post_processor: Post-processor, or whether to use the default one.
        evaluator: Evaluator, or whether to use the default one.
        visualizer: Visualizer, or whether to use the default one.

    Raises:
        XrayError: An image size or score that the model does not have.
    """

    def __init__(  # settings without a use below are read from self.hparams
        self,
        image_size: int = 64,
        equalize: bool = False,
        augmentation: Literal["default", "advanced"] | None = "default",
        components: int = 32,
        score: str = "mse_top_k",
        top_k: float = 0.03,
        map_sigma: float = 1.0,
        learning_rate: float = 1e-3,
        seed: int | None = 42,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        self.start(RECONSTRUCTION_SCORES)  # Change: the names of the scores that the network computes.
        self.learning_rate = learning_rate
        self.model: MyModelNetwork = MyModelNetwork(image_size, components, score, top_k, map_sigma)

    # Change: the loss. Background is exactly 0 and does not count.
    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:  # noqa: ANN401  # lightning passes the batch's index
        """Lowers the masked mean squared error."""
        image = self.grey(batch)
        loss = masked_mse_loss(self.model.reconstruct(image), image, foreground(image))
        self.log_losses({"loss": loss}, len(image))
        return loss

    def configure_optimizers(self) -> optim.Optimizer:
        """Adam."""
        return optim.Adam(self.parameters(), lr=self.learning_rate)
