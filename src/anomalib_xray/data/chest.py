"""What the datamodules of chest radiographs share: splits of published sizes, and a pool of unlabelled images."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from anomalib_xray.data.datamodule import RadiographDataModule
from anomalib_xray.data.partition import read_partition, split_by_partition
from anomalib_xray.data.sizes import SplitSizes, split_by_sizes
from anomalib_xray.data.table import samples_table
from anomalib_xray.errors import XrayError
from anomalib_xray.io.formats import stem_of
from anomalib_xray.io.listing import list_radiographs
from anomalib_xray.io.paths import absolute
from anomalib_xray.io.tables import NOTHING, check_columns, identity, read_table

logger = logging.getLogger(__name__)


class ChestDataModule(RadiographDataModule):
    """Base of the datamodules of chests; a subclass lists the images with their labels.

    Args:
        sizes: Numbers of images of the splits.
        partition: File with published lists of images, ``data.json``; it takes the place of the sizes, of which only
            those of validation then count.
        train_batch_size: Images a training batch.
        eval_batch_size: Images a validation or test batch.
        settings: Further settings of :class:`~anomalib_xray.data.datamodule.RadiographDataModule`.
    """

    def __init__(
        self,
        sizes: SplitSizes,
        partition: str | Path | None = None,
        train_batch_size: int = 64,
        eval_batch_size: int = 64,
        **settings: Any,  # noqa: ANN401  # resolved by the command line from the parent
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
        """Lists the images and splits them.

        Returns:
            A samples table with splits, with ``spare`` images for the pool.

        Raises:
            XrayError: The data set is missing or unusable, or has too few images.
        """
        samples = samples_table(self.list_images())
        if self.partition is None:
            return split_by_sizes(samples, self.sizes, self.split_seed, str(self.root))
        validation = (self.sizes.val_normal, self.sizes.val_abnormal)
        lists = read_partition(self.partition)
        return split_by_partition(samples, lists, self.pool, validation, str(self.partition))


def find_pictures(root: Path, folders: Sequence[str], missing: str) -> dict[str, str]:
    """Finds the folder that holds the pictures of a data set.

    Args:
        root: The data set's folder.
        folders: Sub-folders in which they may be; the first that exists counts.
        missing: What to tell the user when none exists.

    Returns:
        Absolute paths by file name without ending; a picture of that name in a folder further down does not count.

    Raises:
        XrayError: No such folder exists, or it holds no picture.
    """
    folder = next((root / name for name in folders if (root / name).is_dir()), None)
    if folder is None:
        raise XrayError(missing)
    found: dict[str, str] = {}
    for path in sorted(list_radiographs(folder), key=lambda path: (len(path.parts), path)):
        found.setdefault(identity(stem_of(path.name)), str(path))
    if not found:
        raise XrayError(f"{folder} holds no radiograph; {missing}")
    return found


def read_labels(path: Path, columns: Sequence[str], missing: str) -> pd.DataFrame:
    """Reads a CSV file of a data set's labels.

    Args:
        path: The file.
        columns: Columns that it needs, first that of the pictures' names.
        missing: What to tell the user when it is not there.

    Returns:
        These columns as text, by the line of the file.

    Raises:
        XrayError: The file is missing, cannot be read, or lacks a column.
    """
    if not path.is_file():
        raise XrayError(missing)
    rows = read_table(path)
    check_columns(rows, path, columns, "take the file as the data set's authors give it")
    unnamed = [row.line for row in rows if not row.cells[columns[0]]]
    if unnamed:
        logger.warning(
            "%s: passed over rows without %s: %d (first line %d).", path, columns[0], len(unnamed), unnamed[0]
        )
        rows = [row for row in rows if row.cells[columns[0]]]
    cells = [{column: identity(row.cells[column]) for column in columns} for row in rows]
    return pd.DataFrame(cells, index=[row.line for row in rows], columns=list(columns))


def known_findings(
    rows: pd.DataFrame, column: str, path: Path, findings: Collection[str] | None = None
) -> pd.DataFrame:
    """Leaves out rows that say nothing, or nothing that is known, of their picture, and warns of how many.

    Args:
        rows: Of :func:`read_labels`.
        column: Column of what was found.
        path: The file, for the warning.
        findings: What may stand there, in lower case; by default anything but nothing.

    Returns:
        The other rows, with ``column`` in lower case.
    """
    found = rows[column].str.lower()
    kept = ~found.isin(NOTHING) if findings is None else found.isin(findings)
    if not kept.all():
        line = rows.index[~kept][0]
        logger.warning(
            "%s: passed over rows whose %s is empty or unknown: %d (first line %d, %r).",
            path, column, (~kept).sum(), line, rows.loc[line, column],
        )  # fmt: skip
    return rows.assign(**{column: found})[kept]


def label_pictures(labels: pd.Series[int], pictures: dict[str, str], where: Path) -> pd.DataFrame:
    """Puts labels and pictures together, one picture a patient.

    Args:
        labels: 0 or 1 by the picture's name.
        pictures: Paths by the picture's name.
        where: File that the labels come from.

    Returns:
        Rows for :func:`~anomalib_xray.data.table.samples_table`.

    Raises:
        XrayError: A picture is missing.
    """
    missing = sorted(set(labels.index) - set(pictures))
    if missing:
        meant = stem_of(missing[0]).lower()
        other = next((f", but {path} is there" for name, path in pictures.items() if name.lower() == meant), "")
        raise XrayError(f"{where} lists {len(missing)} pictures that are not there, the first is {missing[0]}{other}.")
    return pd.DataFrame(
        {
            "image_path": [pictures[name] for name in labels.index],
            "patient": labels.index,
            "study": labels.index,
            "label_index": labels.to_numpy(),
        }
    )
