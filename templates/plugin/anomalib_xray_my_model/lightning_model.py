"""MyModel as an anomalib model."""

from __future__ import annotations

from typing import Any

from anomalib.data import ImageBatch
from anomalib.models import AnomalibModule
from torch import Tensor

from anomalib_xray.networks.losses import masked_mse_loss
from anomalib_xray.scores import RECONSTRUCTION_SCORES, foreground
from anomalib_xray.training.reconstruction_model import MapModel
from anomalib_xray.training.trained_model import TrainedModel
from anomalib_xray_my_model.torch_model import MyModelNetwork


# Change: the class, its settings and its docstring, which is also the help text of anomalib's command.
class MyModel(MapModel, TrainedModel, AnomalibModule):
    """Linear autoencoder trained on normal radiographs; what it cannot reconstruct is unusual.

    Args:
        components: Length of the code.
        score: Score that becomes the predicted score: ``mse``, ``mse_top_k``, ``l1`` or ``l1_top_k``.
    """

    scores = RECONSTRUCTION_SCORES  # Change: the names of the scores that the network computes.

    def __init__(self, components: int = 32, score: str = "mse_top_k", **settings: Any) -> None:
        super().__init__(score=score, **settings)
        self.model: MyModelNetwork = MyModelNetwork(self.image_size, components, score, self.top_k, self.map_sigma)

    # Change: the loss. Background is exactly 0 and does not count.
    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:
        """Lowers the masked mean squared error."""
        image = self.grey(batch)
        loss = masked_mse_loss(self.model.reconstruct(image), image, foreground(image))
        self.log_losses({"loss": loss}, len(image))
        return loss
