"""Deep one-class features as an anomalib model."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import Any, Literal

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback
from torch import Tensor, nn, optim
from torchvision.transforms.v2 import Transform

from anomalib_xray.components import RadiographModel, Schedule
from anomalib_xray.components.collapse_monitor import CollapseMonitor, feature_spread
from anomalib_xray.components.training_images import training_images
from anomalib_xray.errors import XrayError
from anomalib_xray.transforms import Augmentation, PadResize
from anomalib_xray_plugins.deep_one_class.loss import compactness, descriptiveness
from anomalib_xray_plugins.deep_one_class.networks import Features
from anomalib_xray_plugins.deep_one_class.reference import ReferencePictures
from anomalib_xray_plugins.deep_one_class.torch_model import SCORES, DeepOneClassModel

logger = logging.getLogger(__name__)


class DeepOneClass(RadiographModel, AnomalibModule):
    """Deep one-class features: alike for normal radiographs, while they still tell other pictures apart.

    The score is the cosine distance from the closest of some normal training images; there is no map. Source: Perera
    and Patel 2019, "Learning Deep Features for One-Class Classification" (1801.05365).

    Training needs a folder of reference pictures, best of several classes, such as other body parts. With a single
    class the network learns to tell it from the normal radiographs, which is less.

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        equalize: Whether the foreground's histogram is equalised.
        augmentation: Augmentation in training, of reference pictures too: ``default``, ``advanced`` or none.
        reference_root: Folder of reference pictures with a sub-folder for each class, or without, as a single class;
            needed for training only.
        backbone: A convolutional network of timm.
        weights: File with weights of the backbone; none starts from scratch.
        backbone_layer: The last of the backbone's feature maps that is used, from 0; it is pooled.
        frozen_levels: How many of the backbone's feature maps, from the first, are not trained.
        feature_size: Features of a fully connected layer on top; none takes the pooled map itself.
        compactness_weight: Weight of the compactness; 0.1 as published.
        compact: What is drawn together: the ``features``, or the classifier's ``logits``, as the published code does.
        templates: How many normal training images scores compare with.
        neighbours: Templates that ``template_distance_mean`` averages over.
        score: Score that becomes the predicted score: ``template_distance``, ``template_distance_mean`` or
            ``center_distance``.
        optimizer: ``adam``, or ``sgd`` with a momentum of 0.9 as published.
        learning_rate: Learning rate.
        betas: Coefficients of Adam.
        weight_decay: Weight decay.
        schedule: Learning rate over the training: ``constant``, ``linear``, ``cosine`` or ``exponential``.
        seed: Seed of weights, shuffling, augmentation, reference pictures and templates; none leaves them random.
        pre_processor: Pre-processor, or whether to use the default one.
        post_processor: Post-processor, or whether to use the default one.
        evaluator: Evaluator, or whether to use the default one.
        visualizer: Visualizer, or whether to use the default one.

    Raises:
        XrayError: An image size, score, backbone or layer that there is not, or a number out of range.
    """

    def __init__(
        self,
        image_size: int = 128,
        equalize: bool = False,
        augmentation: Literal["default", "advanced"] | None = "default",
        reference_root: str | None = None,
        backbone: str = "resnet18",
        weights: str | None = None,
        backbone_layer: int = 3,
        frozen_levels: int = 0,
        feature_size: int | None = None,
        compactness_weight: float = 0.1,
        compact: Literal["features", "logits"] = "features",
        templates: int = 100,
        neighbours: int = 5,
        score: str = "template_distance",
        optimizer: Literal["adam", "sgd"] = "adam",
        learning_rate: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 5e-4,
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
        for name, number in (("templates", templates), ("neighbours", neighbours)):
            if number < 1:
                raise XrayError(f"{name} is {number}, but scores compare with at least 1 training image.")
        if compactness_weight < 0:
            msg = f"compactness_weight is {compactness_weight}, but it is at least 0, which leaves compactness out."
            raise XrayError(msg)
        network = Features(backbone, backbone_layer, frozen_levels, feature_size)
        self.model: DeepOneClassModel = DeepOneClassModel(network, neighbours, score)
        self.reference: ReferencePictures | None = None
        self._template_images: list[Tensor] = []

    def configure_callbacks(self) -> list[Callback]:
        """Those of every model, and one that reports a collapse."""
        advice = "lower compactness_weight or learning_rate, or give reference pictures of more classes"
        return [*super().configure_callbacks(), CollapseMonitor(advice)]

    def setup(self, stage: str) -> None:
        """Finds the reference pictures before a training; the classifier gets their classes.

        Args:
            stage: ``fit`` for a training.

        Raises:
            XrayError: There are none.
        """
        super().setup(stage)
        if stage != "fit":
            return
        root = self.hparams["reference_root"]
        if root is None:
            msg = (
                "DeepOneClass learns from reference pictures: set reference_root to a folder that has a sub-folder of "
                "other radiographs, such as other body parts, for each class."
            )
            raise XrayError(msg)
        geometry = getattr(self.pre_processor, "geometry", None)
        self.reference = ReferencePictures(root, geometry or PadResize(self.hparams["image_size"]))
        names = self.reference.classes
        logger.info("Reference classes: %s", ", ".join(names))
        if len(names) == 1:
            logger.warning("There is one reference class, %s: it is told from the training images instead.", names[0])
        with ExitStack() as stack:
            if self.hparams["seed"] is not None:  # the classifier of a seed, whatever was drawn before
                stack.enter_context(torch.random.fork_rng(devices=[]))
                torch.manual_seed(self.hparams["seed"])
            self.model.set_classes(len(names))

    def on_fit_start(self) -> None:
        """Reads the backbone's weights, unless a checkpoint had them."""
        super().on_fit_start()
        self._template_images = []
        if self.hparams["weights"] is not None and not bool(self.model.has_weights):
            self.model.features.backbone.load_weights(self.hparams["weights"])
            self.model.has_weights.fill_(True)

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:  # noqa: ANN401
        """Lowers the descriptiveness loss of a reference batch and the compactness loss of a batch."""
        assert self.reference is not None  # set before
        assert batch.image is not None  # anomalib's fields are optional, its loaders fill this one
        number = len(batch.image)
        reference, labels = self._reference_batch(number)
        # One pass for both: the passes share weights, and batch normalisation then has one statistic for both.
        features: Tensor = self.model(torch.cat([batch.image, reference]))
        logits: Tensor = self.model.classifier(features)
        drawn = features if self.hparams["compact"] == "features" else logits
        compact = compactness(drawn[:number])
        descriptive = descriptiveness(logits[:number], logits[number:], labels, len(self.reference.classes))
        loss: Tensor = descriptive + self.hparams["compactness_weight"] * compact
        losses = {"loss": loss, "descriptiveness": descriptive, "compactness": compact}
        if number > 1:
            losses["feature_spread"] = feature_spread(features[:number])
        self.log_losses(losses, number)
        return loss

    def _reference_batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Pre-processed reference pictures ``(size, 3, S, S)`` and their classes; which ones follows from the step."""
        assert self.reference is not None  # as above
        seed = self.hparams["seed"]
        step = int(torch.randint(2**31 - 1, ())) if seed is None else seed * 1_000_003 + self.global_step
        augmentation = self._augmentation()
        pictures, labels = self.reference.batch(size, step, augmentation)
        pictures = pictures.to(self.device)
        if self.pre_processor:
            pictures = self.pre_processor(pictures)
        if isinstance(augmentation, Augmentation):
            pictures = augmentation.vary_brightness(pictures)
        return pictures, labels.to(self.device)

    def _augmentation(self) -> Transform | None:
        """The one of the training images, lest classes are told apart by it."""
        given = getattr(getattr(self.trainer, "datamodule", None), "train_augmentations", None)
        return self.train_augmentation if given is None else given

    def on_train_batch_end(self, *_: Any) -> None:  # noqa: ANN401
        """Takes the templates anew after an epoch's last step, before validation and checkpoints."""
        if not self.trainer.is_last_batch:
            return
        if not self._template_images:
            chosen = training_images(self, self.hparams["templates"], self.hparams["seed"])
            self._template_images = [images.cpu() for images in chosen]
        self.model.set_templates(images.to(self.device) for images in self._template_images)

    def configure_optimizers(self) -> Any:  # noqa: ANN401  # Lightning's union of forms
        """Adam or SGD for what is not frozen, with the schedule of the settings."""
        settings = self.hparams
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        optimizer: optim.Optimizer
        if settings["optimizer"] == "sgd":
            optimizer = optim.SGD(weights, settings["learning_rate"], 0.9, weight_decay=settings["weight_decay"])
        else:
            betas = tuple(settings["betas"])
            optimizer = optim.Adam(weights, settings["learning_rate"], betas, weight_decay=settings["weight_decay"])
        return self.with_schedule(optimizer)
