"""Radiographs of any CSV table."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from anomalib_xray.data.datamodule import RadiographDataModule
from anomalib_xray.data.stock_command import advice_without_data
from anomalib_xray.data.table import CHARACTERISTICS, COLUMNS, label_index, samples_table, split_by_recipe
from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import Finder, absolute, is_below
from anomalib_xray.io.tables import NOTHING, check_columns, identity, patient_ids, read_table

logger = logging.getLogger(__name__)

_SPLIT_NAMES = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}


class Radiographs(RadiographDataModule):
    """Radiographs of a CSV table with one row per image.

    Args:
        table: The CSV file, with a header; as :func:`anomalib_xray.io.tables.read_table` reads it.
        root: Folder that the table's paths start from and must not leave; by default the table's own folder, and then
            absolute paths may lead anywhere.
        image_path_column: Column of image paths.
        label_column: Column of labels: 0, false, normal or negative; 1, true, abnormal or positive; empty or -1 where
            unknown.
        patient_column: Column of patient ids. With one image per patient it may be the column of image paths.
        study_column: Column of study ids, unique within a patient; without it each image is a study of its own.
        split_column: Column of train, val (or valid, validation), test.
        mask_path_column: Column of anomaly masks, empty for normal images; without it there are none.
        characteristics: Further columns that say more of an image, by which reports show groups; those called
            ``body_part``, ``view``, ``side``, ``age``, ``sex``, ``device``, ``hospital`` or ``hardware`` are taken
            without being named.
        split_from_table: Take the splits from the table where it has them; otherwise the recipe of arXiv 2001.10883
            makes them.
        settings: Further settings of :class:`~anomalib_xray.data.datamodule.RadiographDataModule`.

    Raises:
        XrayError: At setup, when the table is missing or unusable.

    Example:
        >>> Radiographs(table="hands/labels.csv", patient_column="id").name
        'hands'
    """

    def __init__(
        self,
        table: str | Path,
        root: str | Path | None = None,
        image_path_column: str = "image_path",
        label_column: str = "label",
        patient_column: str = "patient",
        study_column: str = "study",
        split_column: str = "split",
        mask_path_column: str = "mask_path",
        split_from_table: bool = True,
        characteristics: list[str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(root=Path(table).parent if root is None else root, **settings)
        self.table = absolute(table)
        self.paths_may_leave_root = root is None
        self.image_path_column = identity(image_path_column)
        self.label_column = identity(label_column)
        self.patient_column = identity(patient_column)
        self.study_column = identity(study_column)
        self.split_column = identity(split_column)
        self.mask_path_column = identity(mask_path_column)
        self.split_from_table = split_from_table
        self.characteristics = [identity(name) for name in characteristics or []]

    def build_samples(self) -> pd.DataFrame:
        """Reads the table; a message about it names the row."""
        rows = self._read_table()
        has_splits = self.split_from_table and self.split_column in rows
        images = pd.DataFrame(
            {
                "image_path": self._paths(rows, self.image_path_column),
                "patient": self._filled(rows, self.patient_column).map(identity),
                "label_index": [label_index(label, self._where(row)) for row, label in rows[self.label_column].items()],
            },
            index=rows.index,
        )
        if self.study_column in rows:
            images["study"] = rows[self.study_column].map(identity)
        if self.mask_path_column in rows:
            images["mask_path"] = self._paths(rows, self.mask_path_column)
        if has_splits:
            images["split"] = rows[self.split_column].str.lower().replace(_SPLIT_NAMES)
        further = [name for name in dict.fromkeys((*CHARACTERISTICS, *self.characteristics)) if name in rows]
        images = images.assign(**{name: rows[name].map(identity) for name in further if name not in COLUMNS})
        images = self._without_repeated(images)
        studies = images["study"] if self.study_column in rows else rows.loc[images.index, self.image_path_column]
        samples = samples_table(images.assign(study=images["patient"] + "/" + studies), self.characteristics)
        return samples if has_splits else split_by_recipe(samples, self.split_seed)

    def _read_table(self) -> pd.DataFrame:
        if not self.table.is_file():
            raise XrayError(
                f"The table {self.table} does not exist: name a CSV file as data.init_args.table; for that of"
                f" configs/data/hands_example.yaml, {advice_without_data('hands_example')}"
            )
        listed = read_table(self.table)
        columns = [self.image_path_column, self.label_column, self.patient_column, *self.characteristics]
        check_columns(listed, self.table, columns, "rename one or set the data module's *_column arguments")
        rows = pd.DataFrame([row.cells for row in listed], index=[row.line for row in listed])
        rows[self.image_path_column] = self._filled(rows, self.image_path_column)
        if self.patient_column != self.image_path_column:
            rows[self.patient_column] = patient_ids(listed, self.patient_column, self.table)
        return rows

    def _without_repeated(self, images: pd.DataFrame) -> pd.DataFrame:
        """Passes over rows that say the same of one image, and refuses those that contradict each other."""
        repeated = images.duplicated()
        if repeated.any():
            logger.warning(
                "%s: passed over rows that repeat another: %d (first line %d).",
                self.table, repeated.sum(), images.index[repeated][0],
            )  # fmt: skip
        images = images[~repeated]
        paths = images["image_path"]
        again = paths.index[paths.duplicated()]
        if len(again) > 0:
            first = paths.index[paths == paths[again[0]]][0]
            raise XrayError(
                f"lines {first} and {again[0]} of {self.table} list {paths[again[0]]} twice and contradict each other;"
                " remove one of them."
            )
        return images

    def _filled(self, rows: pd.DataFrame, column: str) -> pd.Series[str]:
        empty = rows.index[rows[column] == ""]
        if len(empty) > 0:
            raise XrayError(f"{self._where(empty[0])} has an empty {column}; fill it in.")
        return rows[column]

    def _paths(self, rows: pd.DataFrame, column: str) -> list[str]:
        finder = Finder(self.root)
        paths = []
        for row, path in rows[column].items():
            found = finder.find(path) if path.lower() not in NOTHING else None
            if found is not None and not self.paths_may_leave_root and not is_below(found, self.root):
                raise XrayError(
                    f"{self._where(row)} has the path {path}, which is not below {self.root}; move the file or the"
                    " root."
                )
            paths.append("" if found is None else str(found))
        return paths

    def _where(self, row: object) -> str:
        return f"line {row} of {self.table}"
