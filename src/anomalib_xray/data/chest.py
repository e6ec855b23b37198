"""Base classes of the data modules of chest radiographs: published splits, tables of labels."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Collection, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pandas as pd

from anomalib_xray.data.datamodule import RadiographDataModule
from anomalib_xray.data.pool import UnlabelledPool
from anomalib_xray.data.splits import POOL, SPARE, SplitSizes, split_by_sizes
from anomalib_xray.data.stock_command import advice_without_data
from anomalib_xray.data.table import samples_table
from anomalib_xray.errors import XrayError
from anomalib_xray.io.formats import stem_of
from anomalib_xray.io.inputs import list_radiographs
from anomalib_xray.io.paths import absolute
from anomalib_xray.io.tables import NOTHING, check_columns, identity, read_table
from anomalib_xray.io.text import read_json

logger = logging.getLogger(__name__)

MAX_BYTES = 50_000_000
"""Largest partition file; a list of 15,000 images has less than one million."""

_LISTS = (
    ("train", "0"),
    ("train", "unlabeled", "0"),
    ("train", "unlabeled", "1"),
    ("test", "0"),
    ("test", "1"),
)
"""Keys of the lists of a partition file; the last one is their label."""


class ChestDataModule(RadiographDataModule):
    """Base of the data modules of chests; a subclass lists the images with their labels.

    Args:
        sizes: Numbers of images of the splits.
        partition: File with published lists of images, ``data.json``; it takes the place of the sizes, of which only
            those of validation then count.
        train_batch_size: Images per training batch.
        eval_batch_size: Images per validation or test batch.
        settings: Further settings of :class:`~anomalib_xray.data.datamodule.RadiographDataModule`.
    """

    def __init__(
        self,
        sizes: SplitSizes,
        partition: str | Path | None = None,
        train_batch_size: int = 64,
        eval_batch_size: int = 64,
        **settings: Any,
    ) -> None:
        super().__init__(train_batch_size=train_batch_size, eval_batch_size=eval_batch_size, **settings)
        self.sizes = SplitSizes(**sizes) if isinstance(sizes, dict) else sizes  # as YAML has them
        self.partition = None if partition is None else absolute(partition)

    @abstractmethod
    def list_images(self) -> pd.DataFrame:
        """Lists the images.

        Returns:
            Columns ``image_path`` (absolute), ``patient``, ``study``, ``label_index``.

        Raises:
            XrayError: The data set is missing or unusable.
        """

    def build_samples(self) -> pd.DataFrame:
        """Lists the images and splits them, with ``spare`` ones for the pool."""
        samples = samples_table(self.list_images())
        if self.partition is None:
            return split_by_sizes(samples, self.sizes, self.split_seed, str(self.root))
        return _split_by_partition(samples, self.partition, self.pool, (self.sizes.val_normal, self.sizes.val_abnormal))


def _split_by_partition(
    samples: pd.DataFrame, path: Path, pool: UnlabelledPool | None, validation: tuple[int, int]
) -> pd.DataFrame:
    """Splits as published: the pool takes the first names of its lists, whatever its seed, and validation the last.

    The publication has no validation; it is taken from images that the pool leaves over. Other images are spare.
    """
    lists = _read_partition(path)
    train, pool_normal, pool_abnormal, test_normal, test_abnormal = lists
    abnormal = 0 if pool is None else pool.abnormal
    normal = 0 if pool is None else pool.size - abnormal
    splits = dict.fromkeys(train, "train") | dict.fromkeys([*test_normal, *test_abnormal], "test")
    for kind, listed, taken, kept in (
        ("normal", pool_normal, normal, validation[0]),
        ("abnormal", pool_abnormal, abnormal, validation[1]),
    ):
        if taken + kept > len(listed):
            raise XrayError(
                f"{path} lists {len(listed)} {kind} unlabelled images, but the pool needs {taken} and validation"
                f" {kept}; lower the pool's size or the sizes of validation."
            )
        splits |= dict.fromkeys(listed[:taken], POOL) | dict.fromkeys(listed[len(listed) - kept :], "val")
    names = samples["image_path"].map(lambda path: identity(stem_of(Path(path).name)))
    missing = sorted(set(splits) - set(names))
    if missing:
        raise XrayError(f"{path} lists {len(missing)} images that are not there, the first is {missing[0]}.")
    wrong = pd.Series(data=False, index=samples.index)
    for keys, listed in zip(_LISTS, lists, strict=True):
        wrong |= names.isin(listed) & (samples["label_index"] == 1 - int(keys[-1]))
    if wrong.any():
        raise XrayError(
            f"{path} contradicts the labels of {wrong.sum()} images, the first is"
            f" {samples[wrong].iloc[0].image_path}; take the lists that belong to the data set."
        )
    return samples.assign(split=names.map(splits).fillna(SPARE))


def _read_partition(path: Path) -> list[list[str]]:
    """Names of images, without folder and ending, in the lists that the authors of arXiv 2206.03935 publish."""
    try:
        content = read_json(path, max_bytes=MAX_BYTES)
        found = [reduce(getitem, keys, content) for keys in _LISTS]
        return [[identity(stem_of(str(name).rpartition("/")[2])) for name in names] for names in found]
    except (XrayError, KeyError, TypeError) as error:
        raise XrayError(
            f"{path} is not a published list of images ({type(error).__name__}: {error}); it needs the lists"
            f" {', '.join('.'.join(keys) for keys in _LISTS)}."
        ) from error


class ChallengeDataModule(ChestDataModule):
    """Base of the data modules of public challenges: a table of labels beside one folder of pictures.

    Each image counts as a patient, because the patients were not published.
    """

    title: str
    card: str
    table: str
    columns: tuple[str, str]
    folders: tuple[str, ...]
    """Possible folders of the pictures: as downloaded, DICOM, or as the code of arXiv 2206.03935 converts them."""

    findings: Collection[str] | None = None
    """Values that count in the second column, in lower case; by default all but empty ones."""

    @abstractmethod
    def labels(self, rows: pd.DataFrame) -> pd.Series[int]:
        """Labels the pictures, 0 or 1 by their names.

        Args:
            rows: Names of pictures and their findings in lower case, by the line of the table.

        Raises:
            XrayError: Rows contradict each other.
        """

    def list_images(self) -> pd.DataFrame:
        """Lists the pictures that the table labels."""
        missing = (
            f"The {self.title} is not at {self.root}: it needs {self.table} and the pictures in"
            f" {' or '.join(self.folders)}; {advice_without_data(self.card)}"
        )
        path = self.root / self.table
        labels = self.labels(_known(_read_labels(path, self.columns, missing), path, self.findings))
        pictures = _find_pictures(self.root, self.folders, missing)
        lacking = sorted(set(labels.index) - set(pictures))
        if lacking:
            meant = stem_of(lacking[0]).lower()
            other = next((f", but {path} is there" for name, path in pictures.items() if name.lower() == meant), "")
            raise XrayError(
                f"{path} lists {len(lacking)} pictures that are not there, the first is {lacking[0]}{other}."
            )
        ids = {"patient": labels.index, "study": labels.index, "label_index": labels.to_numpy()}
        return pd.DataFrame({"image_path": [pictures[name] for name in labels.index], **ids})


def _find_pictures(root: Path, folders: Sequence[str], missing: str) -> dict[str, str]:
    """Paths by file name without ending, in the first folder that exists; one of that name further down is not it."""
    folder = next((root / name for name in folders if (root / name).is_dir()), None)
    if folder is None:
        raise XrayError(missing)
    found: dict[str, str] = {}
    for path in sorted(list_radiographs(folder), key=lambda path: (len(path.parts), path)):
        found.setdefault(identity(stem_of(path.name)), str(path))
    if not found:
        raise XrayError(f"{folder} holds no radiograph; {missing}")
    return found


def _read_labels(path: Path, columns: Sequence[str], missing: str) -> pd.DataFrame:
    """Columns of a table as text, by the line of the file; rows without a cell in the first are passed over."""
    if not path.is_file():
        raise XrayError(missing)
    rows = read_table(path)
    check_columns(rows, path, columns, "take the file as the data set's authors give it")
    unnamed = [row.line for row in rows if not row.cells[columns[0]]]
    if unnamed:
        logger.warning(
            "%s: passed over rows without %s: %d (first line %d).", path, columns[0], len(unnamed), unnamed[0]
        )
    named = {row.line: row.cells for row in rows if row.cells[columns[0]]}
    cells = [{column: identity(row[column]) for column in columns} for row in named.values()]
    return pd.DataFrame(cells, index=list(named), columns=list(columns))


def _known(rows: pd.DataFrame, path: Path, findings: Collection[str] | None) -> pd.DataFrame:
    """The rows that say something known in their last column, in lower case."""
    column = rows.columns[-1]
    found = rows[column].str.lower()
    kept = ~found.isin(NOTHING) if findings is None else found.isin(findings)
    if not kept.all():
        line = rows.index[~kept][0]
        logger.warning(
            "%s: passed over rows whose %s is empty or unknown: %d (first line %d, %r).",
            path, column, (~kept).sum(), line, rows.loc[line, column],
        )  # fmt: skip
    return rows.assign(**{column: found})[kept]
