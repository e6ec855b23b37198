"""Generated hand radiographs in MURA's layout, with the truth for every pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd
from torchvision.transforms.v2 import Transform

from anomalib_xray.data.mura import Mura
from anomalib_xray.data.pool import UnlabelledPool
from anomalib_xray.phantom import ANOMALY_KINDS, write_phantoms


class Phantom(Mura):
    """Phantom hands: generated at first use, already prepared unless told otherwise, and split as :class:`Mura`.

    They need no download and show whether a whole pipeline works. They say nothing about how well a model finds
    anomalies in patients. Research use only, not a medical device.

    Args:
        root: Folder to generate the set in; a complete set there is used as it is.
        patients: Number of patients to generate.
        positive_share: Share of studies with an anomaly.
        kinds: Kinds of anomalies; all of :data:`anomalib_xray.phantom.ANOMALY_KINDS` when not given.
        seed: Seed of the generator.
        prepared: Draw pictures as a preparation would leave them; otherwise raw films with carriers, markers, two hands
            and inverted contrast.
        split_seed: Seed of the split.
        test_on: ``test`` tests on the recipe's test patients; ``holdout`` on the set's valid part.
        prepared_root: Folder that ``anomalib-xray prepare`` wrote from the raw films, whose pictures and masks are read
            instead.
        drop_flagged: Flags of the preparation whose pictures are left out of training, never of val or test.
        train_batch_size: Images a training batch.
        eval_batch_size: Images a validation or test batch.
        num_workers: Processes that read images.
        train_augmentations: Augmentations of training images; the model's own when not given.
        image_size: Side in pixels of the square that images are padded and resized to; for models that bring no
            geometry of their own.
        normal_only: Train on normal images only.
        pool: Draws a pool of unlabelled images, for models that train on one besides.

    Raises:
        XrayError: At setup, when the folder cannot be written or holds something else.
    """

    def __init__(
        self,
        root: str | Path = "phantoms",
        patients: int = 60,
        positive_share: float = 0.4,
        kinds: list[str] | None = None,
        seed: int = 42,
        prepared: bool = True,
        split_seed: int = 42,
        test_on: Literal["test", "holdout"] = "test",
        prepared_root: str | Path | None = None,
        drop_flagged: list[str] | None = None,
        train_batch_size: int = 32,
        eval_batch_size: int = 32,
        num_workers: int = 2,
        train_augmentations: Transform | None = None,
        image_size: int | None = None,
        normal_only: bool = True,
        pool: UnlabelledPool | None = None,
    ) -> None:
        super().__init__(
            root=root,
            split_seed=split_seed,
            test_on=test_on,
            prepared_root=prepared_root,
            drop_flagged=drop_flagged,
            train_batch_size=train_batch_size,
            eval_batch_size=eval_batch_size,
            num_workers=num_workers,
            train_augmentations=train_augmentations,
            image_size=image_size,
            normal_only=normal_only,
            pool=pool,
        )
        self.patients = patients
        self.positive_share = positive_share
        self.kinds = kinds
        self.generator_seed = seed
        self.prepared = prepared

    def prepare_data(self) -> None:
        """Generates the set, or what is missing of it.

        Raises:
            XrayError: The folder holds something else, or phantoms of other arguments.
        """
        write_phantoms(
            self.root,
            patients=self.patients,
            seed=self.generator_seed,
            prepared=self.prepared,
            positive_share=self.positive_share,
            kinds=ANOMALY_KINDS if self.kinds is None else self.kinds,
        )

    def build_samples(self) -> pd.DataFrame:
        """Generates the set where it is missing, and lists it.

        Returns:
            A samples table with splits and masks.

        Raises:
            XrayError: The folder cannot be written or holds something else.
        """
        self.prepare_data()
        return super().build_samples()

    def mask_path(self, relative: str, label_index: int) -> str:
        """Path of an image's anomaly mask.

        Args:
            relative: The image's path below the root.
            label_index: 0 normal, 1 abnormal.

        Returns:
            An absolute path, or nothing for a normal image.
        """
        return str(self.root / "ground_truth" / "anomaly" / relative) if label_index == 1 else ""
