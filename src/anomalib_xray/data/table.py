"""The samples table: a row per image of any data set.

Columns: ``image_path`` (absolute path), ``source`` (absolute path of the original that a prepared image was made of;
``image_path`` where nothing was prepared), ``patient``, ``study``, ``label`` (normal, abnormal, unknown),
``label_index`` (0, 1, -1), ``split`` (train, val, test, pool for images whose labels are withheld, or labelled for
abnormal ones that train), ``mask_path``
(absolute path, or empty where the image has no mask). Preparation may have made several images of one original; they
share its label.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from anomalib_xray.data.splits import SPLITS, USED, check_patients, paper_split
from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import Finder, dead_link
from anomalib_xray.io.tables import NOTHING, identity

logger = logging.getLogger(__name__)

COLUMNS = ["image_path", "source", "patient", "study", "label", "label_index", "split", "mask_path"]
CHARACTERISTICS = ("body_part", "view", "side", "age", "sex", "device", "hospital", "hardware")
"""Further columns that are kept wherever a data set has them; a user may name others."""
LABELS = {0: "normal", 1: "abnormal", -1: "unknown"}
_LABEL_INDEX = {
    **dict.fromkeys(("0", "0.0", "false", "normal", "negative"), 0),
    **dict.fromkeys(("1", "1.0", "true", "abnormal", "positive"), 1),
    **dict.fromkeys((*NOTHING, "-1", "-1.0", "unknown"), -1),
}


def label_index(value: str, where: str) -> int:
    """Reads a label as people write it.

    Args:
        value: In upper or lower case: 0, 0.0, false, normal, negative; 1, 1.0, true, abnormal, positive; -1, -1.0,
            unknown, nothing, or nan, NA, NULL, None.
        where: Name of the place in a message, for example a file and its row.

    Returns:
        0 for normal, 1 for abnormal, -1 for unknown.

    Raises:
        XrayError: The value is none of these.

    Example:
        >>> [label_index(value, "line 2 of labels.csv") for value in ("Normal", "1.0", "NA")]
        [0, 1, -1]
    """
    index = _LABEL_INDEX.get(value.strip().lower())
    if index is None:
        raise XrayError(
            f"{where} has the label {value!r}; write 0, normal or negative, or 1, abnormal or positive,"
            " or leave it empty where it is unknown."
        )
    return index


def samples_table(images: pd.DataFrame, characteristics: Collection[str] = ()) -> pd.DataFrame:
    """Makes a samples table, sorted by image path, of a data set's rows.

    Args:
        images: The columns ``image_path``, ``patient``, ``study``, ``label_index``; and ``source``, ``split`` and
            ``mask_path`` where the data set has them; by default the image itself, and nothing.
        characteristics: Further columns to keep besides :data:`CHARACTERISTICS`.
    """
    table = images.assign(
        label=images["label_index"].map(LABELS),
        patient=images["patient"].astype(str).map(identity),
        study=images["study"].astype(str).map(identity),
    )
    for name, default in (("source", images["image_path"]), ("split", ""), ("mask_path", "")):
        if name not in table:
            table[name] = default
    further = [name for name in images if name in CHARACTERISTICS or name in characteristics]
    return table[[*COLUMNS, *further]].sort_values("image_path", ignore_index=True)


def split_by_recipe(samples: pd.DataFrame, seed: int, train_share: float | None = None) -> pd.DataFrame:
    """Gives every image its patient's split after :func:`anomalib_xray.data.splits.paper_split`.

    Validation and test need labels, so a patient with an image of unknown label trains.

    Raises:
        XrayError: There are too few patients.
    """
    labels = samples.groupby("patient")["label_index"]
    known = labels.min() >= 0
    abnormal = labels.max()[known] == 1
    splits = paper_split(
        {str(patient): bool(is_abnormal) for patient, is_abnormal in abnormal.items()}, seed, train_share
    )
    return samples.assign(split=samples["patient"].map(splits).fillna("train"))


def train_on_normal(samples: pd.DataFrame) -> pd.DataFrame:
    """A samples table without the images of the train split that are not labelled normal, which a log line counts."""
    left_out = (samples["split"] == "train") & (samples["label_index"] != 0)
    if left_out.any():
        logger.info("%d images that are not labelled normal are left out of training.", left_out.sum())
    return samples[~left_out].reset_index(drop=True)


def has_masks(samples: pd.DataFrame) -> bool:
    """Whether the table has anomaly masks, so that the task is segmentation."""
    return bool((samples["mask_path"] != "").any())


def check_samples(samples: pd.DataFrame, name: str) -> None:
    """Refuses a table that would train or score wrongly; messages call the data set ``name``.

    Raises:
        XrayError: A split name is unknown, a split is empty, an image is listed twice, a patient is in two splits, an
            image of val or test has no label, some abnormal originals have a mask and others have none, or a file is
            missing.
    """
    _check_split_names(samples, name)
    repeated = samples["image_path"].duplicated()
    if repeated.any():
        raise XrayError(f"{name} lists {samples['image_path'][repeated].iloc[0]} twice; remove one of the rows.")
    check_patients(samples)
    _check_labels(samples, name)
    _check_masks(samples, name)
    _check_files(samples, name)


def _check_split_names(samples: pd.DataFrame, name: str) -> None:
    unknown = samples.loc[~samples["split"].isin(USED)]
    if len(unknown) > 0:
        row = unknown.iloc[0]
        raise XrayError(f"{name} puts {row.image_path} into the split {row.split!r}; write train, val, test or pool.")
    for split in SPLITS:
        if not (samples["split"] == split).any():
            raise XrayError(f"{name} has no image for the split {split}; every split needs at least one.")


def _check_labels(samples: pd.DataFrame, name: str) -> None:
    unlabelled = samples[samples["split"].isin(["val", "test"]) & (samples["label_index"] < 0)]
    if len(unlabelled) > 0:
        row = unlabelled.iloc[0]
        raise XrayError(
            f"{name} has {len(unlabelled)} images of unknown label in val or test, the first is {row.image_path};"
            " label them or move their patients to train."
        )


def _check_masks(samples: pd.DataFrame, name: str) -> None:
    # Of several images of an original it is enough that one shows the anomaly.
    masks = samples[samples["label_index"] == 1].groupby("source", sort=False)["mask_path"].max()
    unmasked = masks.index[masks == ""]
    if has_masks(samples) and len(unmasked) > 0:
        raise XrayError(
            f"{name} has masks, but {len(unmasked)} of {len(masks)} abnormal images have none, the first is"
            f" {unmasked[0]}; give every abnormal image a mask, or none."
        )


def _check_files(samples: pd.DataFrame, name: str) -> None:
    paths = pd.concat([samples["image_path"], samples["mask_path"][samples["mask_path"] != ""]])
    missing = [path for path in paths if not os.path.isfile(path)]  # noqa: PTH113  # Path's raises on long names
    if missing:
        target = dead_link(missing[0])
        link = f", a link to {target}" if target is not None else ""
        other = Finder(Path()).lookalike(Path(missing[0]))
        meant = f", but {other} is there" if other is not None else ""
        raise XrayError(f"{name} needs {len(missing)} files that do not exist, the first is {missing[0]}{link}{meant}.")
