"""Splits of given sizes, as those of chests are published: so many normal images train, so many of each kind test."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from anomalib_xray.data.pool import take_images
from anomalib_xray.data.splits import SPARE
from anomalib_xray.errors import XrayError


@dataclass(frozen=True)
class SplitSizes:
    """Numbers of images of the splits; what remains is spare, for the pool of unlabelled images.

    Args:
        train: Normal images that train.
        val_normal: Normal images that validate.
        val_abnormal: Abnormal images that validate.
        test_normal: Normal images that test.
        test_abnormal: Abnormal images that test.

    Raises:
        XrayError: A size is below 1, but for ``val_abnormal``, which may be 0.
    """

    train: int
    val_normal: int
    val_abnormal: int
    test_normal: int
    test_abnormal: int

    def __post_init__(self) -> None:
        for name, size in asdict(self).items():
            if size < (name != "val_abnormal"):
                raise XrayError(f"The split's size {name} is {size}; every split needs at least one image.")


def split_by_sizes(samples: pd.DataFrame, sizes: SplitSizes, seed: int, where: str) -> pd.DataFrame:
    """Draws the splits by patient: whole patients are drawn until a split is full, and nobody is in two.

    A patient with an abnormal image is abnormal, and normal images of theirs are left out: what was called normal at
    another visit of an ill patient may not be.

    Args:
        samples: A samples table; its column ``split`` is replaced.
        sizes: Numbers of images.
        seed: Seed of the draw.
        where: What a message calls the data set.

    Returns:
        A new samples table. Images of nobody's are ``spare``; those that would cross splits are left out.

    Raises:
        XrayError: There are not enough images.
    """
    random = np.random.default_rng(seed)
    abnormal_patient = samples.groupby("patient")["label_index"].transform("max") == 1
    remaining = {
        "abnormal": samples[abnormal_patient & (samples["label_index"] == 1)],
        "normal": samples[~abnormal_patient & (samples["label_index"] == 0)],
    }
    splits: dict[int, str] = {}
    for split, kind, size in (
        ("test", "abnormal", sizes.test_abnormal),
        ("test", "normal", sizes.test_normal),
        ("val", "abnormal", sizes.val_abnormal),
        ("val", "normal", sizes.val_normal),
        ("train", "normal", sizes.train),
    ):
        images = remaining[kind]
        taken = take_images(images, size, random)
        if len(taken) < size:
            raise XrayError(
                f"{where} has no {size} {kind} images for {split} beside those of the other splits, only {len(taken)};"
                " lower the sizes."
            )
        splits |= dict.fromkeys(taken, split)
        remaining[kind] = images[~images["patient"].isin(images.loc[taken, "patient"])]
    splits |= {index: SPARE for images in remaining.values() for index in images.index}
    kept = samples.index.isin(list(splits))
    return samples.assign(split=samples.index.map(splits))[kept].reset_index(drop=True)
