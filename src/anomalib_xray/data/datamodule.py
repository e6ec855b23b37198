"""Base class of the data modules: patient-level splits, geometry per image, and reading at full depth."""

from __future__ import annotations

import logging
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any, ClassVar

import cv2
import pandas as pd
import torch
import torch.distributed as distributed
from anomalib.data import AnomalibDataModule, AnomalibDataset
from anomalib.data.utils import TestSplitMode, ValSplitMode
from lightning.pytorch import LightningModule
from torch.utils.data import DataLoader, RandomSampler
from torchvision.transforms.v2 import Compose, Transform

from anomalib_xray.data.dataset import Draw, RadiographDataset
from anomalib_xray.data.kept_pictures import GIB, keep_pictures
from anomalib_xray.data.pool import UnlabelledPool, draw_pool, without_labels
from anomalib_xray.data.prepared import count_body_parts, leave_out_flagged, prepared_samples
from anomalib_xray.data.splits import LABELLED, POOL, SPARE, SPLITS, draw_labelled
from anomalib_xray.data.table import check_samples, has_masks, train_on_normal
from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import absolute
from anomalib_xray.preparation.runner import PIPELINE, pipeline_of
from anomalib_xray.transforms import PadResize, SquarePad, XrayPreProcessor

logger = logging.getLogger(__name__)

DEFAULT_IMAGE_SIZE = 512
"""Side in pixels where neither a model nor the user sets one; MURA's longest side."""


class RadiographDataModule(AnomalibDataModule):
    """Base of the data modules; a subclass builds the samples table.

    Images of one batch must have one size. anomalib stretches them to the largest, which distorts them; here every
    image gets the model's own geometry before the batch is put together.

    Splits are made of the originals, before prepared pictures replace them, so that the preparation moves no patient.

    Args:
        root: Folder of the data set, with the originals.
        train_batch_size: Images per training batch.
        eval_batch_size: Images per validation or test batch.
        num_workers: Processes that read images.
        train_augmentations: Augmentations of training images; the model's own when not given.
        image_size: Side in pixels of the square that images are padded and resized to; for models that bring no
            geometry of their own.
        normal_only: Train on normal images only.
        prepared_root: Folder with prepared pictures, and their masks, which are read instead. The manifest of
            ``anomalib-xray prepare`` tells which belongs to which original; in folders of other tools they lie under
            the same paths relative to the root.
        drop_flagged: Flags of the preparation whose pictures are left out of training, never of val or test.
        pool: Draws a pool of unlabelled images, for models that train on one besides.
        split_seed: Seed of the split, where the data set does not bring its own; 42 gives the published one. It is
            independent of the model's seed.
        labelled_abnormal: Share of all abnormal patients whose abnormal images train with their label, in models that
            learn from such images besides, as ``DeepSad`` does. These patients are taken from training and validation;
            the test stays as it is. 0 for none.
        cache_gib: Memory in GiB for the pictures of training and validation, which are decoded and brought near the
            model's size once; where they need more they are kept in a file below the results folder, which goes with
            the run. 0 reads and reduces every picture in every epoch.

    Raises:
        XrayError: A batch without images, less than no process, less than no memory, or a share out of range.
    """

    unlabelled_data: RadiographDataset | None = None
    """The pool of unlabelled images, or nothing; set by ``setup``."""

    labelled_data: RadiographDataset | None = None
    """The labelled abnormal images of training, or nothing; set by ``setup``."""

    unit: ClassVar[str] = "patients"
    """Name of those that are split as a whole, in messages; another one where a data set does not tell patients."""

    def __init__(
        self,
        root: str | Path,
        train_batch_size: int = 32,
        eval_batch_size: int = 32,
        num_workers: int = 2,
        train_augmentations: Transform | None = None,
        image_size: int | None = None,
        normal_only: bool = True,
        prepared_root: str | Path | None = None,
        drop_flagged: list[str] | None = None,
        pool: UnlabelledPool | None = None,
        split_seed: int = 42,
        labelled_abnormal: float = 0.0,
        cache_gib: float = 1.0,
    ) -> None:
        for name, value, least in (
            ("train_batch_size", train_batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("num_workers", num_workers, 0),
            ("cache_gib", cache_gib, 0),
        ):
            if value < least:
                raise XrayError(f"{name} is {value}; it must be at least {least}.")
        if not 0 <= labelled_abnormal < 1:
            raise XrayError(f"labelled_abnormal is {labelled_abnormal}, but it is a share: 0 for none, or below 1.")
        super().__init__(
            train_batch_size=train_batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            train_augmentations=train_augmentations,
            val_split_mode=ValSplitMode.FROM_DIR,
            test_split_mode=TestSplitMode.FROM_DIR,
        )
        self.root = absolute(root)
        self.image_size = image_size
        self.normal_only = normal_only
        self.prepared_root = None if prepared_root is None else absolute(prepared_root)
        self.drop_flagged = drop_flagged
        self.pool = pool
        self.split_seed = split_seed
        self.labelled_abnormal = labelled_abnormal
        self.cache_gib = cache_gib

    @abstractmethod
    def build_samples(self) -> pd.DataFrame:
        """Lists the originals in a samples table with splits, see :mod:`anomalib_xray.data.table`; always the same.

        Raises:
            XrayError: The data set is missing or its files contradict each other.
        """

    @property
    def preparation(self) -> dict[str, Any]:
        """Preparation of the pictures that are read, as a checkpoint remembers it.

        Whether they are ``prepared``, and their ``pipeline`` as of :meth:`Pipeline.as_json`; ``None`` for originals and
        for pictures that another program prepared. Where the preparation recognised body parts and the samples
        are listed, ``body_parts`` has the number of training pictures of each.

        Raises:
            XrayError: A step of the pipeline is not installed any more.
        """
        folder = self.prepared_root or self.root
        pipeline = pipeline_of(folder).as_json() if (folder / PIPELINE).is_file() else None
        parts = {} if self._samples is None else count_body_parts(self._samples, folder)
        prepared = {"prepared": pipeline is not None or self.prepared_root is not None, "pipeline": pipeline}
        return prepared | ({"body_parts": parts} if parts else {})

    @property
    def name(self) -> str:  # type: ignore[override]  # a property in anomalib too, an attribute in lightning
        """A folder of the images' paths: anomalib keeps what comes after it in the names of the pictures it writes."""
        return (self.prepared_root or self.root).name

    @property
    def samples(self) -> pd.DataFrame:
        """The samples table of the pictures that are read, in all splits, built and checked at first use.

        Raises:
            XrayError: The data set, or its prepared folder, is missing or unusable.
        """
        if self._samples is None:
            samples = self.build_samples()
            if self.pool is not None and not (samples["split"] == POOL).any():
                samples = draw_pool(samples, self.pool)
            if self.labelled_abnormal:
                samples = draw_labelled(samples, self.labelled_abnormal, self.split_seed)
            samples = samples[samples["split"] != SPARE]
            if self.normal_only:
                samples = train_on_normal(samples)
            if self.prepared_root is not None:
                samples = prepared_samples(samples, self.root, self.prepared_root)
            if self.drop_flagged:
                samples = leave_out_flagged(samples, self.drop_flagged)
            check_samples(samples, str(self.root))
            self._samples = samples
        return self._samples

    def train_dataloader(self) -> DataLoader[object]:
        """Batches of the train split, in an order that follows from the model's seed and the epoch alone."""
        model = self.trainer.lightning_module if self.trainer else None
        seed = model.hparams.get("seed") if model is not None else None
        epoch = 0
        if self.trainer:
            # The count that Lightning itself hands to set_epoch; it is right on resuming already.
            epoch = self.trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]  # typed as its base
        sampler = EpochSampler(self.train_data, int(torch.randint(2**31 - 1, ())) if seed is None else seed, epoch)
        return self._loader(self.train_data, self.train_batch_size, sampler)

    def val_dataloader(self) -> DataLoader[object]:
        """Batches of the validation split in the order of the table."""
        return self._loader(self.val_data, self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[object]:
        """Batches of the test split in the order of the table."""
        return self._loader(self.test_data, self.eval_batch_size)

    def _loader(
        self, dataset: AnomalibDataset, batch_size: int, sampler: EpochSampler | None = None
    ) -> DataLoader[object]:
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            # Workers draw nothing of their own, and a loader that starts must not draw from what training draws from.
            generator=torch.Generator(),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0 and dataset is not self.test_data,
            collate_fn=self.external_collate_fn or dataset.collate_fn,
            worker_init_fn=use_one_opencv_thread,
        )

    # From here on: methods that anomalib declares private. tests/data/test_datamodule.py says when one goes.

    def _setup(self, _stage: str | None = None) -> None:
        task = "segmentation" if has_masks(self.samples) else "classification"
        for split in SPLITS:
            rows = self.samples[self.samples["split"] == split]
            setattr(self, f"{split}_data", RadiographDataset(rows, task))
            counts = rows["label"].value_counts().to_dict()
            logger.info("%s: %d images of %d %s, %s", split, len(rows), rows["patient"].nunique(), self.unit, counts)
        unlabelled = self.samples[self.samples["split"] == POOL]
        if len(unlabelled) > 0:
            self.unlabelled_data = RadiographDataset(without_labels(unlabelled), "classification")
        labelled = self.samples[self.samples["split"] == LABELLED]
        if len(labelled) > 0:
            self.labelled_data = RadiographDataset(labelled, "classification")
            patients = labelled["patient"].nunique()
            logger.info("labelled abnormal, for training: %d images of %d %s", len(labelled), patients, self.unit)

    def _create_test_split(self) -> None:
        """Nothing to do: the table has the split. anomalib would draw normal test images from other patients."""

    def _create_val_split(self) -> None:
        """Nothing to do: the table has the split."""

    def _update_augmentations(self) -> None:
        """Gives each split the transforms of an image before it joins a batch; called at every ``setup``."""
        model = self.trainer.lightning_module if self.trainer is not None else None
        augmentation = self.train_augmentations
        if augmentation is None:
            augmentation = getattr(model, "train_augmentation", None)
        for dataset, its_augmentation in (
            (self.train_data, augmentation),
            (self.val_data, None),
            (self.test_data, None),
            *((data, augmentation) for data in (self.unlabelled_data, self.labelled_data) if data is not None),
        ):
            dataset.augmentations = self._per_image(its_augmentation, model)
            transform = getattr(getattr(model, "pre_processor", None), "transform", None)
            if not _has_geometry(model) and transform is not None:
                # appends the Resize of a model that is not from this package
                self._update_subset_augmentations(dataset, dataset.augmentations, transform)
        self._keep_pictures(augmentation)

    def _keep_pictures(self, augmentation: Transform | None) -> None:
        """Keeps the images that are read in every epoch: those of training and, as the model sees them, validation."""
        left = int(self.cache_gib * GIB)
        folder = Path(getattr(self.trainer, "default_root_dir", None) or tempfile.gettempdir())
        kept: list[tuple[Any, Transform | None]] = [  # data sets that read as ours do
            (self.train_data, augmentation),
            (self.unlabelled_data, augmentation),
            (self.labelled_data, augmentation),
            (self.val_data, None),
        ]
        for dataset, its_augmentation in kept:
            if dataset is not None:
                dataset.kept = keep_pictures(dataset, its_augmentation) if self.cache_gib > 0 else None
                if dataset.kept is not None:
                    fits = dataset.kept.size <= left
                    dataset.kept.make_room(None if fits else folder)
                    left -= dataset.kept.size if fits else 0

    def _per_image(self, augmentation: Transform | None, model: LightningModule | None) -> Compose:
        """Puts the augmentation and the geometry in their order.

        A turned or scaled image may leave its frame, so our geometry comes after the augmentation. Other models resize
        to a fixed shape at the end; padding to a square first keeps the aspect through that.
        """
        before = [] if augmentation is None else [augmentation]
        if _has_geometry(model):
            return Compose([*before, model.pre_processor.geometry])  # type: ignore[union-attr]  # checked by _has_geometry
        if model is None or self.image_size is not None:
            return Compose([*before, PadResize(self.image_size or DEFAULT_IMAGE_SIZE)])
        return Compose([SquarePad(), *before])


def _has_geometry(model: LightningModule | None) -> bool:
    return isinstance(getattr(model, "pre_processor", None), XrayPreProcessor)


def use_one_opencv_thread(worker: int) -> None:
    """Keeps each of the reading processes from starting an OpenCV thread for every core."""
    del worker
    cv2.setNumThreads(0)


ANOTHER_PROCESS = 1_000_003
"""Distance between the seeds of two processes; larger than any number of epochs."""


class EpochSampler(RandomSampler):
    """Shuffles anew every epoch, so that a resumed training goes on as if it had never stopped.

    A resumed training builds its model, and with it the random state, again; without this its first epoch would repeat
    the order, the augmentations and the noise of epoch 0. Lightning calls :meth:`set_epoch` before every epoch, but on
    resuming only after the first batch was fetched, hence the constructor's argument.

    Args:
        data: Training data set.
        seed: Seed of the run.
        epoch: Epoch that the training starts or goes on with.
    """

    def __init__(self, data: Sized, seed: int, epoch: int = 0) -> None:
        self.source = torch.Generator()
        super().__init__(data, generator=self.source)
        self.seed = seed
        self.epoch = -1
        self.set_epoch(epoch)

    def __iter__(self) -> Iterator[Draw]:
        """Numbers of the images in their order, each with the seed of its augmentation, whichever process reads it."""
        order = list(super().__iter__())
        seeds = torch.randint(2**63 - 1, (len(order),), generator=self.source).tolist()
        return map(Draw, order, seeds)

    def set_epoch(self, epoch: int) -> None:
        """Seeds the order with its augmentations, and torch's own generator for the model's noise; once per epoch."""
        if epoch == self.epoch:
            return
        self.epoch = epoch
        state = (self.seed + epoch) % 2**63
        self.source.manual_seed(state)
        # Processes share the order, of which each takes its part, but not the noise.
        rank = distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0
        torch.manual_seed((state + rank * ANOTHER_PROCESS) % 2**63)
