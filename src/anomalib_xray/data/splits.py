"""Splits by patient. Pure functions: ids in, split names out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from anomalib_xray.errors import XrayError
from anomalib_xray.io.tables import identity

SPLITS = ("train", "val", "test")

POOL = "pool"
"""Split of unlabelled images, which a data set may have besides."""

SPARE = "spare"
"""Split of images that nothing uses; the pool may draw from them."""


def paper_split(patients: Mapping[str, bool], seed: int = 42) -> dict[str, str]:
    """Splits patients as arXiv 2001.10883 (Davletshina et al. 2020) does, section 4.

    Half of the abnormal patients validate and half test, each half with equally many normal patients; all other normal
    patients train. With seed 42 the hands of MURA's train part give the published 2554, 1494 and 1495 images.

    Where there are no more normal than abnormal patients the recipe leaves nobody to train on (MURA's shoulders); then
    half of the normal patients train and the other half is divided between validation and test.

    Args:
        patients: For each patient's id whether they have at least one abnormal study.
        seed: Seed of the shuffle. It is independent of any model's seed.

    Returns:
        ``train``, ``val`` or ``test`` for each patient's id.

    Raises:
        XrayError: There are fewer than two abnormal or fewer than two normal patients.
    """
    is_abnormal: dict[str, bool] = {}
    for patient, has_positive_study in patients.items():
        is_abnormal[identity(patient)] = has_positive_study or is_abnormal.get(identity(patient), False)
    abnormal = sorted(patient for patient, has_positive_study in is_abnormal.items() if has_positive_study)
    normal = sorted(patient for patient, has_positive_study in is_abnormal.items() if not has_positive_study)
    if min(len(abnormal), len(normal)) < 2:
        raise XrayError(
            f"{len(abnormal)} abnormal and {len(normal)} normal patients cannot be split into train, val and test;"
            " give at least two of each, or a table with a split column."
        )
    # The published counts come out of this generator, of sorted ids, and of abnormal before normal; of nothing else.
    random = np.random.RandomState(seed)
    abnormal = random.permutation(abnormal).tolist()
    normal = random.permutation(normal).tolist()

    held_out = len(abnormal) if len(abnormal) < len(normal) else len(normal) // 2
    splits = dict.fromkeys(normal[held_out:], "train")
    for group, size in ((abnormal, len(abnormal)), (normal, held_out)):
        splits |= dict.fromkeys(group[: size // 2], "val")
        splits |= dict.fromkeys(group[size // 2 : size], "test")
    return {patient: splits[identity(patient)] for patient in patients}


def check_patients(table: pd.DataFrame) -> None:
    """Refuses a table in which a patient is in more than one split.

    Args:
        table: One row an image, with the columns ``patient`` and ``split``.

    Raises:
        XrayError: Names the first such patient and the splits.
    """
    table = table.assign(patient=table["patient"].astype(str).map(identity))
    splits_a_patient = table.groupby("patient")["split"].nunique()
    crossing = splits_a_patient.index[splits_a_patient > 1]
    if len(crossing) > 0:
        splits = sorted(table.loc[table["patient"] == crossing[0], "split"].unique(), key=(*SPLITS, POOL).index)
        raise XrayError(
            f"patient {crossing[0]} is in {' and '.join(splits)} ({len(crossing)} patients are in more than one split);"
            " give all images of a patient the same split."
        )
