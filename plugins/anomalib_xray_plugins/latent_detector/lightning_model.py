"""Classical detectors on codes as an anomalib model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from anomalib.models import AnomalibModule

from anomalib_xray.detectors import DetectorBank, Subset
from anomalib_xray.errors import XrayError
from anomalib_xray.training.fitted_model import DetectorModel
from anomalib_xray.training.radiograph_model import PRETRAINED_SIZES
from anomalib_xray.training.reconstruction_model import MapModel
from anomalib_xray_plugins.latent_detector.encoder import BackboneEncoder, PluginEncoder
from anomalib_xray_plugins.latent_detector.torch_model import LatentModel, Pooling


class LatentDetector(MapModel, DetectorModel, AnomalibModule):
    """Nearest neighbours, Mahalanobis, one-class SVM, DBSCAN and distance to a subspace, on the codes of an encoder.

    The encoder is that of a model that was trained before, or a network of timm; it does not change. The detectors are
    fitted by scikit-learn to the codes of the training images, in one epoch, and score in torch.

    Args:
        checkpoint: Checkpoint of a trained model with an encoder, such as ``Cae``, ``Vae`` or ``Bigan``, read when
            training starts. This model's own checkpoint then holds the encoder.
        backbone: Network of timm whose features are used where there is no checkpoint, or several, whose vectors are
            put behind each other: distances then add up what each of them finds unusual.
        layers: Which of each backbone's feature maps, in rising order from 0; a vision transformer has one per block.
        weights: File with weights of the backbone, read when training starts, or one for each of several; none leaves
            them random.
        pooling: How a feature map becomes a vector: ``average`` or ``max`` over the foreground, ``tiles`` for the
            averages of four overlapping tiles behind each other, or ``flatten``; or ``places``: detectors judge each
            place on its own, which also gives a map.
        components: Principal components of the vectors that detectors see, their share of the variance if below 1, or
            none for all features.
        limit: Largest number of them that ``knn`` keeps; all if left out.
        subset: Which ``knn`` keeps: a ``random`` choice, or a ``coreset``.
        score: Detector whose score becomes the predicted score.
        top_k: Places whose mean is an image's score, with ``places``: the most unusual ones, a number, or a fraction of
            those with foreground if below 1.
        map_sigma: Smoothing of the anomaly map, in pixels of the network's input, with ``places``.

    Raises:
        XrayError: A setting that the model does not have.

    Example:
        >>> LatentDetector(backbone="test_resnet", detectors=["knn", "mahalanobis"]).scores
        ('knn', 'mahalanobis')
    """

    model: LatentModel
    image_sizes = PRETRAINED_SIZES

    def __init__(
        self,
        checkpoint: str | None = None,
        backbone: str | Sequence[str] = "resnet18",
        layers: Sequence[int] = (1, 2, 3),
        weights: str | Sequence[str] | None = None,
        pooling: Pooling = "average",
        components: float | None = 32,
        limit: int | None = None,
        subset: Subset = "random",
        score: str = "knn",
        top_k: float = 0.03,
        map_sigma: float = 1.0,
        **settings: Any,
    ) -> None:
        super().__init__(score=score, top_k=top_k, map_sigma=map_sigma, **settings)
        if pooling not in get_args(Pooling):
            raise XrayError(
                f"pooling is {pooling!r}, but there are {', '.join(get_args(Pooling))}; choose one of them."
            )
        self.checkpoint = checkpoint
        self.weights = _names(weights or ())
        bank = DetectorBank(self.detectors, self.detector_settings(components, limit, subset))
        encoder = BackboneEncoder(_names(backbone), layers, self.image_size) if checkpoint is None else None
        self.model = LatentModel(encoder, bank, pooling, score, top_k, map_sigma)

    @property
    def scores(self) -> Sequence[str]:
        """A score of each detector."""
        return self.detectors

    def on_fit_start(self) -> None:
        """Reads the encoder or its weights, unless a checkpoint of this model brought them."""
        encoder = self.model.encoder
        if isinstance(encoder, BackboneEncoder):
            encoder.prepare(self.weights)
        elif self.checkpoint is not None and encoder is None:
            encoder = PluginEncoder.of_checkpoint(self.checkpoint, self.image_size, self.equalize)
            self.model.encoder = encoder.to(self.device)
        super().on_fit_start()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the encoder's description, so that its own checkpoint is needed no more."""
        super().on_save_checkpoint(checkpoint)
        if isinstance(self.model.encoder, PluginEncoder):
            checkpoint["encoder"] = self.model.encoder.description()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Builds the encoder, whose weights are loaded next."""
        super().on_load_checkpoint(checkpoint)
        if "encoder" in checkpoint:
            self.model.encoder = PluginEncoder.of_description(checkpoint["encoder"]).to(self.device)


def _names(value: str | Sequence[str]) -> list[str]:
    """One name or several as a list."""
    return [value] if isinstance(value, str) else list(value)
