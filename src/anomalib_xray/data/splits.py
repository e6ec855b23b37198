"""Splits by patient: the published recipe, and splits of given sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from anomalib_xray.errors import XrayError
from anomalib_xray.io.tables import identity

SPLITS = ("train", "val", "test")

POOL = "pool"
"""Split of unlabelled images."""

LABELLED = "labelled"
"""Split of abnormal images that train with their label."""

USED = (*SPLITS, POOL, LABELLED)
"""Splits of images that are read."""

SPARE = "spare"
"""Split of images that nothing uses; the pool may draw from them."""


def paper_split(patients: Mapping[str, bool], seed: int = 42, train_share: float | None = None) -> dict[str, str]:
    """Splits patients as arXiv 2001.10883 (Davletshina et al. 2020) does, section 4.

    Half of the abnormal patients validate and half test, each half with equally many normal patients; all other normal
    patients train. With seed 42 the hands of MURA's train part give the published 2554, 1494 and 1495 images.

    Where there are no more normal than abnormal patients the recipe leaves no patient to train on (MURA's shoulders);
    then half of the normal patients train and the other half is divided between validation and test.

    Args:
        patients: For each patient's id whether they have at least one abnormal study.
        seed: Seed of the shuffle. It is independent of any model's seed.
        train_share: Share of the normal patients that train, in place of the published number; the others are divided
            between validation and test.

    Returns:
        ``train``, ``val`` or ``test`` for each patient's id.

    Raises:
        XrayError: There are fewer than two abnormal or fewer than two normal patients, or the share leaves none to
            train or to hold out.

    Example:
        >>> splits = paper_split({"a": True, "b": True, "c": False, "d": False, "e": False})
        >>> sorted(splits.values())
        ['test', 'test', 'train', 'val', 'val']
    """
    ill = {identity(patient) for patient, is_abnormal in patients.items() if is_abnormal}
    abnormal = sorted(ill)
    normal = sorted({identity(patient) for patient in patients} - ill)
    if min(len(abnormal), len(normal)) < 2:
        raise XrayError(
            f"{len(abnormal)} abnormal and {len(normal)} normal patients, or groups in their place, cannot be split"
            " into train, val and test; give at least two of each, with fewer filters for example, or a table of"
            " your own with a split column."
        )
    # The published counts come out of this generator, of sorted ids, and of abnormal before normal; of nothing else.
    random = np.random.RandomState(seed)
    abnormal = random.permutation(abnormal).tolist()
    normal = random.permutation(normal).tolist()

    held_out = len(abnormal) if len(abnormal) < len(normal) else len(normal) // 2
    if train_share is not None:
        held_out = len(normal) - round(train_share * len(normal))
        if not 2 <= held_out < len(normal):
            raise XrayError(
                f"train_share is {train_share:g}; of {len(normal)} normal patients, or groups in their place, at least"
                " one must train and two be held out."
            )
    splits = dict.fromkeys(normal[held_out:], "train")
    for group, size in ((abnormal, len(abnormal)), (normal, held_out)):
        splits |= dict.fromkeys(group[: size // 2], "val")
        splits |= dict.fromkeys(group[size // 2 : size], "test")
    return {patient: splits[identity(patient)] for patient in patients}


def check_patients(table: pd.DataFrame) -> None:
    """Refuses a table of images with the columns ``patient`` and ``split`` in which a patient is in several splits.

    Raises:
        XrayError: Names the first such patient and the splits.
    """
    table = table.assign(patient=table["patient"].astype(str).map(identity))
    splits_per_patient = table.groupby("patient")["split"].nunique()
    crossing = splits_per_patient.index[splits_per_patient > 1]
    if len(crossing) > 0:
        splits = sorted(table.loc[table["patient"] == crossing[0], "split"].unique(), key=USED.index)
        raise XrayError(
            f"patient {crossing[0]} is in {' and '.join(splits)} ({len(crossing)} patients are in more than one split);"
            " give all images of a patient the same split."
        )


def take_images(images: pd.DataFrame, count: int, random: np.random.Generator) -> list[int]:
    """Draws images patient by patient, so that as few patients as possible are used up.

    Returns:
        Their index in the samples table, ``count`` or all if there are fewer.
    """
    patients = random.permutation(sorted(images["patient"].unique()))
    place = {patient: number for number, patient in enumerate(patients)}
    order = images.assign(place=images["patient"].map(place)).sort_values(["place", "image_path"])
    return order.index[:count].tolist()


def draw_labelled(samples: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """Draws abnormal patients whose abnormal images train with their label, by the split's seed.

    They come from training and spare patients and, where these are too few, from those who validate; whoever tests
    stays, so that models with and without such images are tested alike. In the new samples table their abnormal images
    have the split ``labelled``, and their other images are left out: one called normal at another visit of an ill
    patient may not be.

    Args:
        samples: A samples table with splits.
        share: Share of the abnormal patients of all splits that are drawn, in (0, 1); one patient at least.
        seed: Seed of the split.

    Raises:
        XrayError: There are too few of them, or validation would be left without an abnormal patient.

    Example:
        >>> table = pd.DataFrame({"patient": ["a", "b", "b", "c"], "label_index": [1, 1, 0, 1]})
        >>> drawn = draw_labelled(table.assign(split=["train", "val", "val", "test"]), share=0.3, seed=42)
        >>> drawn["split"].tolist()
        ['labelled', 'val', 'val', 'test']
    """
    split_of = samples[samples["label_index"] == 1].groupby("patient")["split"].first()
    random = np.random.default_rng(seed)
    behind, validating = (sorted(split_of.index[split_of.isin(splits)]) for splits in (["train", SPARE], ["val"]))
    count, most = max(1, round(share * len(split_of))), len(behind) + max(0, len(validating) - 1)
    if count > most:
        raise XrayError(
            f"labelled_abnormal is {share:g}, which is {count} of {len(split_of)} abnormal patients, but training and"
            f" validation can spare only {most}; lower it."
        )
    drawn = [*random.permutation(behind), *random.permutation(validating)][:count]
    of_drawn = samples["patient"].isin(drawn)
    kept = ~of_drawn | (samples["label_index"] == 1)
    return samples.assign(split=samples["split"].mask(of_drawn, LABELLED))[kept].reset_index(drop=True)


@dataclass(frozen=True)
class SplitSizes:
    """Numbers of images of the splits; all others are spare, for the pool of unlabelled images.

    Args:
        train: Normal images that train.
        val_normal: Normal images that validate.
        val_abnormal: Abnormal images that validate.
        test_normal: Normal images that test.
        test_abnormal: Abnormal images that test.

    Raises:
        XrayError: A size is below 1, but for ``val_abnormal``, which may be 0.

    Example:
        >>> SplitSizes(train=200, val_normal=50, val_abnormal=50, test_normal=100, test_abnormal=0)
        Traceback (most recent call last):
        anomalib_xray.errors.XrayError: The split's size test_abnormal is 0; every split needs at least one image.
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
    """Draws the splits by patient: whole patients are drawn until a split is full, and no patient is in two.

    A patient with an abnormal image is abnormal, and normal images of theirs are left out: an image called normal at
    another visit of an ill patient may not be. Remaining images are ``spare``; those that would cross splits are left
    out. Messages call the data set ``where``.

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
