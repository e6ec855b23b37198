"""Parts that every model plugin for radiographs shares with anomalib's side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from anomalib import LearningType
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.metrics import AUROC, Evaluator, F1Score
from anomalib.visualization import Visualizer
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import Callback, seed_everything
from torch import Tensor, nn
from torchvision.transforms.v2 import Transform

from anomalib_xray.data.dataset import read_as_radiographs
from anomalib_xray.data.splits import SPLITS
from anomalib_xray.errors import XrayError
from anomalib_xray.freed_memory import keep_freed_memory
from anomalib_xray.scores import ScoredBatch
from anomalib_xray.training.callbacks import LossMeans, TrainingEnd
from anomalib_xray.training.checkpoint import StraightCheckpointIO, random_state, restore_random_state
from anomalib_xray.training.engine import READ_OUT_SETTINGS, adapt_engine, differing_settings, drop_thresholds
from anomalib_xray.training.export import ExportWithParity
from anomalib_xray.training.pictures import (
    PICTURE_EPOCHS,
    PICTURES_IN_A_ROW,
    AlignedVisualizer,
    ScoreHistograms,
    log_pictures,
    takes_pictures,
)
from anomalib_xray.training.post_processor import XrayPostProcessor
from anomalib_xray.training.score_table import ScoreTable
from anomalib_xray.transforms import Augmentation, XrayPreProcessor
from anomalib_xray.transforms.augmentation import augmentation_of

IMAGE_SIZES = (64, 128, 256, 512)
"""Sides of images that models work on."""

PRETRAINED_SIZES = (64, 128, 224, 256, 384, 392, 448, 512, 518)
"""Those of models on trained networks of timm: vision transformers see multiples of their patches of 14 or 16."""


class RadiographModel(ExportWithParity):
    """Mixin of a model plugin: ``class Cae(RadiographModel, AnomalibModule)``.

    It brings the settings that every model has, the pre-processor with the exportable geometry, the post-processor, the
    score table, pictures aligned with their maps, the steps, and the export with measured parity. A plugin adds its
    torch module, its losses and its optimisers. It is a mixin because anomalib finds direct subclasses of
    ``AnomalibModule`` only.

    The plugin's constructor has its own settings, hands the others on and then builds ``self.model``::

        scores = ("mse", "l1")

        def __init__(self, width: int = 16, score: str = "mse", **settings: Any) -> None:
            super().__init__(score=score, **settings)
            self.model = ...

    A setting of a mixin has another default where the plugin names it. In its training step a plugin takes :meth:`grey`
    images and hands its losses to :meth:`log_losses`; :meth:`pictures` are logged while it trains. A model without an
    optimiser must still return a loss: Lightning saves no checkpoint before the first step. Its torch module takes
    pre-processed images ``(N, 3, H, W)`` and returns a :class:`~anomalib_xray.scores.ScoredBatch` in evaluation.

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels, or another of
            the model's ``image_sizes``.
        equalize: Whether the foreground's histogram is equalised.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        score: Score that becomes the predicted score.
        seed: Seed of weights, shuffling and augmentation; none leaves them random.
        pre_processor: Pre-processor, or whether to use the default one.
        post_processor: Post-processor, or whether to use the default one.
        evaluator: Evaluator, or whether to use the default one.
        visualizer: Visualizer, or whether to use the default one.

    Raises:
        XrayError: An image size or score that the model does not have.
    """

    model: nn.Module

    image_sizes: ClassVar[tuple[int, ...]] = IMAGE_SIZES
    """Sides of images that the model works on; those of pretrained networks are others."""

    uses_labels: ClassVar[bool] = False
    """Whether the model trains with the datamodule's labelled abnormal images."""

    _random_state: dict[str, Any] | None = None
    """State of the generators in a checkpoint that training goes on from."""

    training_preparation: dict[str, Any] | None = None
    """Preparation of the training data of a checkpoint, as of the datamodule; ``None`` where it is unknown."""

    def __init__(
        self,
        image_size: int = 128,
        equalize: bool = False,
        augmentation: Literal["default", "advanced"] | None = "default",
        score: str = "mse_top_k",
        seed: int | None = 42,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        # The parent's constructor makes the pre-processor of these.
        self.image_size, self.equalize = image_size, equalize
        super().__init__(
            pre_processor=pre_processor,
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        self.augmentation, self.score, self.seed = augmentation, score, seed
        self._noted: dict[str, list[tuple[Tensor, int]]] = {}
        if image_size not in self.image_sizes:
            *sizes, largest = map(str, self.image_sizes)
            msg = (
                f"image_size is {image_size}, but {self.name} works on {', '.join(sizes)} or {largest} pixels; choose"
                " one of them."
            )
            raise XrayError(msg)
        if score not in self.scores:
            msg = f"score is {score!r}, but {self.name} computes {', '.join(self.scores)}; choose one of them."
            raise XrayError(msg)
        if seed is not None:  # before layers are built; anomalib's command parses --seed_everything without using it
            seed_everything(seed, workers=True, verbose=False)

    @property
    def scores(self) -> Sequence[str]:
        """Names of the scores that the model computes; those that follow from settings read them in ``hparams``."""
        raise NotImplementedError

    @property
    def learning_type(self) -> LearningType:
        """Trained on normal images only."""
        return LearningType.ONE_CLASS

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Nothing: anomalib would let them override what the user set."""
        return {}

    @property
    def train_augmentation(self) -> Transform | None:
        """Augmentation that the project's datamodules apply in training unless they are given one of their own."""
        return None if self.augmentation is None else Augmentation(self.augmentation)

    def configure_pre_processor(  # type: ignore[override]  # the instance knows its own size; anomalib's is static
        self, image_size: tuple[int, int] | None = None
    ) -> XrayPreProcessor:
        """Pads to a square, resizes, equalises if asked to, and scales to [0, 1]."""
        return XrayPreProcessor(image_size=image_size[0] if image_size else self.image_size, equalize=self.equalize)

    def configure_post_processor(self) -> XrayPostProcessor:
        """Thresholds without labels by default."""
        return XrayPostProcessor()

    def configure_evaluator(self) -> Evaluator:  # type: ignore[override]  # anomalib's is static
        """Pixel metrics where masks exist; image metrics come from the score table, by rank."""
        return Evaluator(
            test_metrics=[
                F1Score(fields=["pred_label", "gt_label"], prefix="image_"),
                AUROC(fields=["anomaly_map", "gt_mask"], prefix="pixel_", strict=False),
                F1Score(fields=["pred_mask", "gt_mask"], prefix="pixel_", strict=False),
            ]
        )

    @classmethod
    def configure_visualizer(cls) -> AlignedVisualizer:
        """Draws what the model saw, so that picture and map fit."""
        return AlignedVisualizer()

    def configure_callbacks(self) -> list[Callback]:
        """Puts those first that collect losses, which others read, and scores, before the post-processor's turn."""
        components = super().configure_callbacks()
        assert isinstance(components, Sequence)  # anomalib's own signature also allows a single one
        return [LossMeans(), ScoreTable(), ScoreHistograms(), TrainingEnd(), *components]

    def forward(self, batch: Tensor, *_: Any, **__: Any) -> InferenceBatch:
        """Pre-processes, scores and post-processes raw images ``(N, 3, H, W)`` in [0, 1]; exported as it is."""
        images = self.pre_processor(batch) if self.pre_processor else batch
        scored: ScoredBatch = self.model(images)
        output = InferenceBatch(scored.pred_score, None, scored.anomaly_map, None)
        return self.post_processor(output) if self.post_processor else output

    def setup(self, stage: str) -> None:
        """Lets data sets of anomalib's own read radiographs as ours do, and checkpoints be written as ours are."""
        super().setup(stage)
        strategy = getattr(self._trainer, "strategy", None)
        if strategy is not None and type(strategy.checkpoint_io) is TorchCheckpointIO:  # the user's own stays
            strategy.checkpoint_io = StraightCheckpointIO()
        datamodule = getattr(self._trainer, "datamodule", None)
        geometry = self.pre_processor.geometry if isinstance(self.pre_processor, XrayPreProcessor) else None
        for split in SPLITS:
            read_as_radiographs(getattr(datamodule, f"{split}_data", None), geometry, keep=split != "test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the model's name, how its data were prepared, and the random state for a training that goes on."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["model_name"] = self.name
        checkpoint["random_state"] = random_state()
        datamodule = getattr(self._trainer, "datamodule", None)
        if self.training_preparation is None or datamodule is not None:
            self.training_preparation = getattr(datamodule, "preparation", None)
        if self.training_preparation is not None:
            checkpoint["preparation"] = self.training_preparation

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Notes the preparation, and the random state, to be restored when training goes on: others draw until then.

        Thresholds of another score, or of another way to read it, are dropped.
        """
        super().on_load_checkpoint(checkpoint)
        if not READ_OUT_SETTINGS.isdisjoint(differing_settings(self, checkpoint)):
            drop_thresholds(checkpoint)
        self._random_state = checkpoint.get("random_state")
        self.training_preparation = checkpoint.get("preparation")

    def on_fit_start(self) -> None:
        """Restores the random state of the checkpoint: the loader of the next epoch is what draws next."""
        super().on_fit_start()
        if self._random_state is not None:
            restore_random_state(self._random_state)
            self._random_state = None
        if self.device.type == "cpu":
            keep_freed_memory(True)

    def on_fit_end(self) -> None:
        """Hands memory that training freed back to the system."""
        super().on_fit_end()
        if self.device.type == "cpu":
            keep_freed_memory(False)

    def on_train_batch_start(self, batch: ImageBatch, batch_idx: int) -> None:
        """Varies the brightness of a pre-processed batch where the augmentation of its images says so."""
        super().on_train_batch_start(batch, batch_idx)
        augmentation = augmentation_of(getattr(self.trainer.train_dataloader, "dataset", None))
        if augmentation is not None and batch.image is not None:
            batch.image = augmentation.vary_brightness(batch.image)

    @staticmethod
    def grey(batch: ImageBatch) -> Tensor:
        """The one channel of a batch of pre-processed images, ``(N, 1, S, S)`` in [0, 1]."""
        return torch.as_tensor(batch.image).mean(1, keepdim=True)

    def _score(self, batch: ImageBatch) -> ImageBatch:
        """Scores a batch in place: the evaluator reads the batch itself, not what a step returns.

        In single precision whatever training uses, so that a score does not depend on the trainer's flags.
        """
        with torch.autocast(self.device.type, enabled=False):
            output: ScoredBatch = self.model(batch.image)
        batch.update(pred_score=output.pred_score, anomaly_map=output.anomaly_map)
        batch.scores = output.scores  # type: ignore[attr-defined]  # an attribute, as anomalib's fields take no mapping
        return batch

    def validation_step(self, batch: ImageBatch, batch_idx: int, *_: Any, **__: Any) -> Any:
        """Scores a batch in place and returns it; the first batch of every tenth epoch is also logged as pictures."""
        if batch_idx == 0 and self.current_epoch % PICTURE_EPOCHS == 0 and takes_pictures(self):
            log_pictures(self, self.pictures(self.grey(batch)[:PICTURES_IN_A_ROW]))
        return self._score(batch)

    def test_step(self, batch: ImageBatch, *_: Any, **__: Any) -> Any:  # type: ignore[override]  # ours are of images
        """Scores a batch in place and returns it."""
        return self._score(batch)

    predict_step = test_step  # type: ignore[assignment]  # takes any

    def pictures(self, image: Tensor) -> dict[str, Tensor]:
        """Pictures that show the progress of training, to which a plugin adds its own.

        Args:
            image: A few pre-processed images, ``(N, 1, S, S)`` in [0, 1].

        Returns:
            Grids by name, each ``(M, 1, S, S)`` in [0, 1].
        """
        del image
        return {}

    @staticmethod
    def reconstruction_rows(image: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        """A row of images above the row of their reconstructions, each ``(N, 1, S, S)``."""
        return {"reconstructions": torch.cat([image, reconstruction])}

    def log_losses(self, losses: Mapping[str, Tensor], batch_size: int) -> None:
        """Notes the scalar losses of a training step, whose means are logged with :meth:`log_noted_losses`."""
        for name, value in losses.items():
            self._noted.setdefault(name, []).append((value.detach(), batch_size))

    def log_noted_losses(self) -> None:
        """Logs the mean of each noted loss over the images as ``train_<name>``; the progress bar shows the first.

        At the end of an epoch, because a call of Lightning's log takes as long as a small network's layer.
        """
        noted, self._noted = self._noted, {}
        for index, (name, entries) in enumerate(noted.items()):
            images = sum(size for _, size in entries)
            mean = sum(value * (size / images) for value, size in entries)
            how: dict[str, Any] = {"on_step": False, "on_epoch": True, "batch_size": images, "sync_dist": True}
            self.log(f"train_{name}", mean, prog_bar=index == 0, **how)


adapt_engine(RadiographModel)
