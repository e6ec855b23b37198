"""Deep one-class features as an anomalib model."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import torch
from anomalib.data import ImageBatch
from anomalib.models import AnomalibModule
from lightning.pytorch import Callback
from torch import Tensor, optim
from torch.nn.functional import cross_entropy
from torchvision.transforms.v2 import Transform

from anomalib_xray.data.dataset import read_image
from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import list_radiographs
from anomalib_xray.io.paths import absolute
from anomalib_xray.training.callbacks import CollapseMonitor, feature_spread
from anomalib_xray.training.radiograph_model import PRETRAINED_SIZES
from anomalib_xray.training.trained_model import TrainedModel
from anomalib_xray.training.training_images import training_images
from anomalib_xray.transforms import Augmentation, PadResize
from anomalib_xray_plugins.deep_one_class.torch_model import SCORES, DeepOneClassModel, Features

logger = logging.getLogger(__name__)

CACHE_BYTES = 1 << 30
"""Pictures are kept in memory at the size of the network up to so much; others are read again."""


class ReferencePictures:
    """The pictures below a folder: each sub-folder is a class, or the folder itself is the only one.

    Args:
        root: The folder.
        geometry: Brings a picture ``(3, H, W)`` to the size of the network.

    Attributes:
        classes: Names of the classes, in alphabetical order.
        files: The pictures of each class.

    Raises:
        XrayError: The folder is missing or holds no pictures.
    """

    def __init__(self, root: str | Path, geometry: Callable[[Tensor], Tensor]) -> None:
        self.root = absolute(root)
        if not self.root.is_dir():
            msg = f"reference_root is {root}, which is no folder; give one that has a sub-folder of pictures per class."
            raise XrayError(msg)
        found: dict[str, list[Path]] = {}
        loose: list[Path] = []
        for path in list_radiographs(self.root):
            *folders, _ = path.relative_to(self.root).parts
            (found.setdefault(folders[0], []) if folders else loose).append(path)
        if not found:
            found = {self.root.name: loose} if loose else {}
        elif loose:
            logger.warning("%d pictures in %s itself belong to no class and are left out.", len(loose), self.root)
        if not found:
            msg = f"reference_root is {root}, but there is no PNG, JPEG or DICOM file in it; give another folder."
            raise XrayError(msg)
        self.classes = list(found)
        self.files = list(found.values())
        self.geometry = geometry
        self._cache: dict[Path, Tensor] = {}
        self._cached_bytes = 0

    def batch(
        self, size: int, seed: int, augmentation: Transform | Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draws pictures ``(size, 3, S, S)`` in [0, 1] and their classes ``(size,)``.

        All classes have the same chance, and so do the pictures of a class. An augmentation is applied to each picture;
        otherwise nothing but their geometry changes.

        Raises:
            XrayError: A picture cannot be read.
        """
        source = torch.Generator().manual_seed(seed)
        labels = torch.randint(len(self.files), (size,), generator=source)
        pictures = []
        for label in labels.tolist():
            files = self.files[label]
            picture = self._read(files[int(torch.randint(len(files), (), generator=source))])
            # An augmentation may change the size.
            pictures.append(picture if augmentation is None else self.geometry(augmentation(picture)))
        return torch.stack([picture.as_subclass(Tensor) for picture in pictures]), labels

    def _read(self, path: Path) -> Tensor:
        if path in self._cache:
            return self._cache[path]
        picture = self.geometry(read_image(path))
        size = picture.numel() * picture.element_size()
        if self._cached_bytes + size <= CACHE_BYTES:
            self._cache[path] = picture
            self._cached_bytes += size
        return picture


class DeepOneClass(TrainedModel, AnomalibModule):
    """Deep one-class features: alike for normal radiographs, while they still tell other pictures apart.

    The score is the cosine distance from the closest of some normal training images; there is no map. Source: Perera
    and Patel 2019, "Learning Deep Features for One-Class Classification" (1801.05365).

    Training needs a folder of reference pictures, best of several classes, such as other body parts. With a single
    class the network learns to tell it from the normal radiographs, which is less.

    Args:
        augmentation: Augmentation in training, of reference pictures too: ``default``, ``advanced`` or none.
        reference_root: Folder of reference pictures with a sub-folder for each class, or without, as a single class;
            needed for training only.
        backbone: A convolutional network or vision transformer of timm.
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

    Raises:
        XrayError: A backbone or layer that there is not, or a number out of range.

    Example:
        >>> DeepOneClass(backbone="test_resnet", backbone_layer=2).scores
        ('template_distance', 'template_distance_mean', 'center_distance')
    """

    scores = SCORES
    image_sizes = PRETRAINED_SIZES

    def __init__(
        self,
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
        **settings: Any,
    ) -> None:
        super().__init__(score=score, learning_rate=learning_rate, **settings)
        for name, number in (("templates", templates), ("neighbours", neighbours)):
            if number < 1:
                raise XrayError(f"{name} is {number}, but scores compare with at least 1 training image.")
        if compactness_weight < 0:
            msg = f"compactness_weight is {compactness_weight}, but it is at least 0, which leaves compactness out."
            raise XrayError(msg)
        self.reference_root, self.weights, self.templates = reference_root, weights, templates
        self.compactness_weight, self.compact = compactness_weight, compact
        self.optimizer, self.betas, self.weight_decay = optimizer, betas, weight_decay
        network = Features(backbone, backbone_layer, frozen_levels, feature_size, self.image_size)
        self.model: DeepOneClassModel = DeepOneClassModel(network, neighbours, score)
        self.reference: ReferencePictures | None = None
        self._template_images: list[Tensor] = []

    def configure_callbacks(self) -> list[Callback]:
        """Those of every model, and one that reports a collapse."""
        advice = "lower compactness_weight or learning_rate, or give reference pictures of more classes"
        return [*super().configure_callbacks(), CollapseMonitor(advice)]

    def setup(self, stage: str) -> None:
        """Finds the reference pictures before a training; the classifier gets their classes.

        Raises:
            XrayError: There are none.
        """
        super().setup(stage)
        if stage != "fit":
            return
        if self.reference_root is None:
            msg = (
                "DeepOneClass learns from reference pictures: set reference_root to a folder that has a sub-folder of "
                "other radiographs, such as other body parts, for each class."
            )
            raise XrayError(msg)
        geometry = getattr(self.pre_processor, "geometry", None)
        self.reference = ReferencePictures(self.reference_root, geometry or PadResize(self.image_size))
        names = self.reference.classes
        logger.info("Reference classes: %s", ", ".join(names))
        if len(names) == 1:
            logger.warning("There is one reference class, %s: it is told from the training images instead.", names[0])
        with ExitStack() as stack:
            if self.seed is not None:  # the classifier of a seed, whatever was drawn before
                stack.enter_context(torch.random.fork_rng(devices=[]))
                torch.manual_seed(self.seed)
            self.model.set_classes(len(names))

    def on_fit_start(self) -> None:
        """Reads the backbone's weights, unless a checkpoint had them."""
        super().on_fit_start()
        self._template_images = []
        if self.weights is not None and not bool(self.model.has_weights):
            self.model.features.backbone.load_weights(self.weights)
            self.model.has_weights.fill_(True)

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:
        """Lowers the descriptiveness loss of a reference batch and the compactness loss of a batch."""
        assert self.reference is not None  # set before
        assert batch.image is not None  # anomalib's fields are optional, its loaders fill this one
        number = len(batch.image)
        with torch.autocast(self.device.type, enabled=False):  # what is no network works in single precision
            reference, labels = self._reference_batch(number)
        # One pass for both: the passes share weights, and batch normalisation then has one statistic for both.
        features: Tensor = self.model(torch.cat([batch.image, reference]))
        logits: Tensor = self.model.classifier(features)
        drawn = features if self.compact == "features" else logits
        compact = compactness(drawn[:number])
        descriptive = descriptiveness(logits[:number], logits[number:], labels, len(self.reference.classes))
        loss: Tensor = descriptive + self.compactness_weight * compact
        losses = {"loss": loss, "descriptiveness": descriptive, "compactness": compact}
        if number > 1:
            losses["feature_spread"] = feature_spread(features[:number])
        self.log_losses(losses, number)
        return loss

    def _reference_batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Pre-processed reference pictures ``(size, 3, S, S)`` and their classes; which ones follows from the step."""
        assert self.reference is not None  # as above
        step = int(torch.randint(2**31 - 1, ())) if self.seed is None else self.seed * 1_000_003 + self.global_step
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

    def on_train_batch_end(self, *_: Any) -> None:
        """Takes the templates anew after an epoch's last step, before validation and checkpoints."""
        if not self.trainer.is_last_batch:
            return
        if not self._template_images:
            chosen = training_images(self, self.templates, self.seed)
            self._template_images = [images.cpu() for images in chosen]
        self.model.set_templates(images.to(self.device) for images in self._template_images)

    def configure_optimizers(self) -> Any:
        """Adam or SGD for what is not frozen, with the schedule of the settings."""
        if self.optimizer == "adam":
            return super().configure_optimizers()
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        return self.with_schedule(optim.SGD(weights, self.learning_rate, 0.9, weight_decay=self.weight_decay))


def compactness(features: Tensor) -> Tensor:
    """Mean squared distance of each image's features from those of the other images of its batch.

    ``1 / (n k) sum_i ||x_i - m_i||^2`` with m_i the mean of the other n - 1 features, of length k (equations 4 to 6).

    Args:
        features: Features of target images, ``(n, k)``.

    Returns:
        Scalar; 0 for a single image, which has no others.
    """
    number = len(features)
    if number < 2:
        return 0 * features.sum()
    # x_i - m_i = n / (n - 1) (x_i - m) with m the mean of all.
    apart = (features - features.mean(0)) * (number / (number - 1))
    return apart.square().mean()


def descriptiveness(logits: Tensor, reference_logits: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Loss of the classifier of reference pictures.

    The softmax cross-entropy of the reference batch (equation 3). With a single reference class there is nothing to
    tell apart in it; the target images then join as a second class.

    Args:
        logits: Of target images, ``(n, K)``.
        reference_logits: Of reference images, ``(m, K)``.
        labels: Class of each reference image, ``(m,)``, from 0.
        classes: Number of reference classes; ``K``, or 1 with K = 2.

    Returns:
        Scalar.
    """
    if classes > 1:
        return cross_entropy(reference_logits, labels)
    targets = torch.ones(len(logits), dtype=labels.dtype, device=labels.device)
    return cross_entropy(torch.cat([reference_logits, logits]), torch.cat([labels, targets]))
