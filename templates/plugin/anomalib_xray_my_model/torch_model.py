"""Network of MyModel and its scores. Change: the layers and their names."""

from __future__ import annotations

from torch import Tensor, nn

from anomalib_xray.scores import ScoredBatch, SmoothedErrorMap, foreground, reconstruction_scores


class MyModelNetwork(nn.Module):
    """Linear autoencoder: with the squared error it learns the principal components of the training images.

    Args:
        image_size: Side S of the images.
        components: Length of the code.
        score: Name of the score that becomes the predicted score.
        top_k: Pixels of the top-k scores: a number or, below 1, a fraction of the foreground.
        map_sigma: Smoothing of the anomaly map, in pixels of the network's input.
    """

    def __init__(self, image_size: int, components: int, score: str, top_k: float, map_sigma: float) -> None:
        super().__init__()
        self.encoder = nn.Linear(image_size**2, components)
        self.decoder = nn.Linear(components, image_size**2)
        self.score = score
        self.top_k = top_k
        self.anomaly_map = SmoothedErrorMap(map_sigma)

    def reconstruct(self, image: Tensor) -> Tensor:
        """Encodes and decodes ``(N, 1, S, S)`` in [0, 1]."""
        reconstruction: Tensor = self.decoder(self.encoder(image.flatten(1))).unflatten(1, image.shape[1:])
        return reconstruction

    def forward(self, batch: Tensor) -> ScoredBatch:
        """Scores images.

        Args:
            batch: Pre-processed images with equal channels, ``(N, 3, S, S)`` in [0, 1], background exactly 0.

        Returns:
            Scores and map; a score depends on its image alone.
        """
        image = batch.mean(1, keepdim=True)
        reconstruction = self.reconstruct(image)
        mask = foreground(image)
        scores = reconstruction_scores(image, reconstruction, mask, self.top_k)
        return ScoredBatch.of(scores, self.score, self.anomaly_map((image - reconstruction).square(), mask))
