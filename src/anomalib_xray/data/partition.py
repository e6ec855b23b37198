"""Lists of images that publish a split: which train, which are unlabelled, which test (``data.json``)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from anomalib_xray.data.pool import UnlabelledPool
from anomalib_xray.data.splits import POOL, SPARE
from anomalib_xray.errors import XrayError
from anomalib_xray.io.formats import stem_of
from anomalib_xray.io.tables import identity
from anomalib_xray.io.text import read_json

MAX_BYTES = 50_000_000
"""A list of 15,000 images has less than one million."""

_LISTS = (
    ("train", "0"),
    ("train", "unlabeled", "0"),
    ("train", "unlabeled", "1"),
    ("test", "0"),
    ("test", "1"),
)


class Partition(NamedTuple):
    """Names of images, without folder and ending, in their order.

    Attributes:
        train: Normal images that train.
        pool_normal: Normal images to make the pool of.
        pool_abnormal: Abnormal images to make the pool of.
        test_normal: Normal images that test.
        test_abnormal: Abnormal images that test.
    """

    train: list[str]
    pool_normal: list[str]
    pool_abnormal: list[str]
    test_normal: list[str]
    test_abnormal: list[str]


def read_partition(path: Path) -> Partition:
    """Reads the lists as the authors of arXiv 2206.03935 publish theirs.

    ``{"train": {"0": [...], "unlabeled": {"0": [...], "1": [...]}}, "test": {"0": [...], "1": [...]}}``, where 0 is
    normal, 1 abnormal, and an entry is a file name.

    Args:
        path: The JSON file.

    Returns:
        The lists.

    Raises:
        XrayError: The file cannot be read or has another form.
    """
    try:
        content = read_json(path, max_bytes=MAX_BYTES)
        lists = []
        for keys in _LISTS:
            found = content
            for key in keys:
                found = found[key]
            lists.append([identity(stem_of(str(name).rpartition("/")[2])) for name in found])
    except (XrayError, KeyError, TypeError) as error:
        raise XrayError(
            f"{path} is not a published list of images ({type(error).__name__}: {error}); it needs the lists"
            f" {', '.join('.'.join(keys) for keys in _LISTS)}."
        ) from error
    return Partition(*lists)


def split_by_partition(
    samples: pd.DataFrame, partition: Partition, pool: UnlabelledPool | None, validation: tuple[int, int], where: str
) -> pd.DataFrame:
    """Splits as published: the pool takes the first names of its lists, validation the last of them.

    The publication has no validation; it is taken from what the pool leaves over.

    Args:
        samples: A samples table of images whose file names are those of the lists.
        partition: The lists.
        pool: Size and anomaly rate of the pool; its seed has no say here. Without one nothing is unlabelled.
        validation: Numbers of normal and of abnormal images that validate.
        where: What a message calls the data set.

    Returns:
        A new samples table, with the split ``spare`` for what is in nobody's list.

    Raises:
        XrayError: An image of a list is missing, a label contradicts the list, or the lists are too short.
    """
    abnormal = 0 if pool is None else pool.abnormal
    normal = 0 if pool is None else pool.size - abnormal
    splits = dict.fromkeys(partition.train, "train")
    splits |= dict.fromkeys([*partition.test_normal, *partition.test_abnormal], "test")
    for kind, listed, taken, kept in (
        ("normal", partition.pool_normal, normal, validation[0]),
        ("abnormal", partition.pool_abnormal, abnormal, validation[1]),
    ):
        if taken + kept > len(listed):
            raise XrayError(
                f"{where} lists {len(listed)} {kind} unlabelled images, but the pool needs {taken} and validation"
                f" {kept}; lower the pool's size or the sizes of validation."
            )
        splits |= dict.fromkeys(listed[:taken], POOL) | dict.fromkeys(listed[len(listed) - kept :], "val")
    names = samples["image_path"].map(lambda path: identity(stem_of(Path(path).name)))
    missing = sorted(set(splits) - set(names))
    if missing:
        raise XrayError(f"{where} lists {len(missing)} images that are not there, the first is {missing[0]}.")
    _check_labels(samples, names, partition, where)
    return samples.assign(split=names.map(splits).fillna(SPARE))


def _check_labels(samples: pd.DataFrame, names: pd.Series[str], partition: Partition, where: str) -> None:
    normal = {*partition.train, *partition.pool_normal, *partition.test_normal}
    abnormal = {*partition.pool_abnormal, *partition.test_abnormal}
    wrong = samples[
        (names.isin(normal) & (samples["label_index"] == 1)) | (names.isin(abnormal) & (samples["label_index"] == 0))
    ]
    if len(wrong) > 0:
        raise XrayError(
            f"{where} contradicts the labels of {len(wrong)} images, the first is {wrong.iloc[0].image_path};"
            " take the lists that belong to the data set."
        )
