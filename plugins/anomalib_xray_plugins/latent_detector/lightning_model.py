"""Classical detectors on codes as an anomalib model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.visualization import Visualizer
from torch import nn

from anomalib_xray.components import FittedModel
from anomalib_xray.detectors import DETECTORS, DetectorBank, DetectorSettings, Gamma, Subset, check_detectors
from anomalib_xray.errors import XrayError
from anomalib_xray_plugins.latent_detector.encoder import BackboneEncoder, PluginEncoder
from anomalib_xray_plugins.latent_detector.pooling import Pooling
from anomalib_xray_plugins.latent_detector.torch_model import LatentModel


class LatentDetector(FittedModel, AnomalibModule):
    """Nearest neighbours, Mahalanobis distance, one-class support vector machine and DBSCAN on the codes of an encoder.

    The encoder is that of a model that was trained before, or a network of timm; it does not change. The detectors are
    fitted by scikit-learn to the codes of the training images, in one epoch, and score in torch.

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        equalize: Whether the foreground's histogram is equalised.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        checkpoint: Checkpoint of a trained model with an encoder, such as ``Cae``, ``Vae`` or ``Bigan``, read when
            training starts. This model's own checkpoint then holds the encoder.
        backbone: Network of timm whose features are used where there is no checkpoint.
        layers: Which of the backbone's feature maps, in rising order.
        weights: File with weights of the backbone, read when training starts; none leaves them random.
        pooling: How a feature map becomes a vector: ``average`` or ``max`` over the foreground, or ``flatten``; or
            ``places``: detectors judge each place on its own, which also gives a map.
        detectors: Detectors that are fitted, all if left out: ``knn``, ``mahalanobis``, ``one_class_svm``, ``dbscan``.
        components: Principal components of the vectors that detectors see, their share of the variance if below 1, or
            none for all features.
        whiten: Whether the components are scaled to unit variance.
        neighbours: Number of nearest vectors of ``knn``.
        references: Largest number of vectors of training images, one an image or a place, that detectors are fitted
            to, a random choice.
        limit: Largest number of them that ``knn`` keeps; all if left out.
        subset: Which ``knn`` keeps: a ``random`` choice, or a ``coreset``.
        nu: Share of the training images that may lie beyond the boundary of ``one_class_svm``.
        gamma: Width of its kernel: a number, ``scale`` or ``sweep``.
        eps: Radius of ``dbscan``; fits the training images if left out.
        min_samples: Images within this radius that ``dbscan`` calls dense.
        score: Detector whose score becomes the predicted score.
        top_k: Places whose mean is an image's score, with ``places``: the most unusual ones, a number, or a fraction of
            those with foreground if below 1.
        map_sigma: Smoothing of the anomaly map, in pixels of the network's input, with ``places``.
        seed: Seed of shuffling, augmentation and choice; none leaves shuffling and augmentation random.
        pre_processor: Pre-processor, or whether to use the default one.
        post_processor: Post-processor, or whether to use the default one.
        evaluator: Evaluator, or whether to use the default one.
        visualizer: Visualizer, or whether to use the default one.

    Raises:
        XrayError: A setting that the model does not have.
    """

    model: LatentModel

    def __init__(
        self,
        image_size: int = 128,
        equalize: bool = False,
        augmentation: Literal["default", "advanced"] | None = None,
        checkpoint: str | None = None,
        backbone: str = "resnet18",
        layers: Sequence[int] = (1, 2, 3),
        weights: str | None = None,
        pooling: Pooling = "average",
        detectors: list[str] | None = None,
        components: float | None = 32,
        whiten: bool = False,
        neighbours: int = 5,
        references: int = 2048,
        limit: int | None = None,
        subset: Subset = "random",
        nu: float = 0.1,
        gamma: float | Gamma = "sweep",
        eps: float | None = None,
        min_samples: int = 5,
        score: str = "knn",
        top_k: float = 0.03,
        map_sigma: float = 1.0,
        seed: int | None = 42,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        names = DETECTORS if detectors is None else tuple(detectors)
        check_detectors(names)
        self.start(names)
        if pooling not in get_args(Pooling):
            raise XrayError(
                f"pooling is {pooling!r}, but there are {', '.join(get_args(Pooling))}; choose one of them."
            )
        settings = DetectorSettings(components, whiten, neighbours, limit, subset, nu, gamma, eps, min_samples)
        encoder = BackboneEncoder(backbone, layers) if checkpoint is None else None
        self.model = LatentModel(encoder, DetectorBank(names, settings), pooling, score, top_k, map_sigma)

    def on_fit_start(self) -> None:
        """Reads the encoder or its weights, unless a checkpoint of this model brought them."""
        encoder = self.model.encoder
        if isinstance(encoder, BackboneEncoder):
            encoder.backbone.prepare(self.hparams["weights"])
        elif encoder is None:
            path, size, equalize = (self.hparams[name] for name in ("checkpoint", "image_size", "equalize"))
            self.model.encoder = PluginEncoder.of_checkpoint(path, size, equalize).to(self.device)
        super().on_fit_start()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps what the encoder is built from: the file that it came from need not be there any more."""
        super().on_save_checkpoint(checkpoint)
        if isinstance(self.model.encoder, PluginEncoder):
            checkpoint["encoder"] = self.model.encoder.description()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Builds the encoder, whose weights are loaded next."""
        super().on_load_checkpoint(checkpoint)
        if "encoder" in checkpoint:
            self.model.encoder = PluginEncoder.of_description(checkpoint["encoder"]).to(self.device)
