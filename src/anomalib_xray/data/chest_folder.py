"""Chest radiographs in folders, one per finding, such as the paediatric ones of Kermany et al. 2018."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pandas as pd

from anomalib_xray.data.chest import ChestDataModule
from anomalib_xray.data.splits import SplitSizes
from anomalib_xray.data.stock_command import advice_without_data
from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import list_radiographs
from anomalib_xray.io.tables import identity

logger = logging.getLogger(__name__)

KERMANY_PATIENT = r"person\d+|(?:NORMAL2-)?IM-\d+"
"""Pattern of patients in the file names of Kermany et al. 2018."""

SMALL = SplitSizes(train=200, val_normal=50, val_abnormal=50, test_normal=100, test_abnormal=100)
"""Sizes that 500 normal and 300 abnormal images allow for, with a pool of up to 150 images."""


class ChestFolder(ChestDataModule):
    """Chest radiographs in a folder with one sub-folder for normal ones and one for each finding.

    Args:
        root: The folder. The sub-folder ``normal`` (or ``NORMAL``) holds normal images; those of all others are
            abnormal.
        sizes: Numbers of images of the splits.
        patient_pattern: Regular expression of the patient in a file's name, in upper or lower case. An image whose name
            does not match is a patient of its own.
        settings: Further settings of :class:`~anomalib_xray.data.chest.ChestDataModule`.

    Raises:
        XrayError: The pattern is not a regular expression; or, at setup, the folder is missing, unusable or too small.

    Example:
        >>> ChestFolder(root="chests", patient_pattern="case[0-9]+").sizes.train
        200
    """

    def __init__(
        self,
        root: str | Path = "datasets/chest",
        sizes: SplitSizes = SMALL,
        patient_pattern: str = KERMANY_PATIENT,
        **settings: Any,
    ) -> None:
        super().__init__(root=root, sizes=sizes, **settings)
        try:
            self.patient_pattern = re.compile(patient_pattern, re.IGNORECASE)
        except re.error as error:
            raise XrayError(f"The patient_pattern {patient_pattern!r} is no regular expression: {error}.") from error

    def list_images(self) -> pd.DataFrame:
        """Lists the images of all sub-folders."""
        found = list_radiographs(self.root) if self.root.is_dir() else []
        files = [path for path in found if path.parent.parent == self.root]
        if len(files) < len(found):
            passed = len(found) - len(files)
            logger.warning("%s: passed over pictures that do not lie directly in a sub-folder: %d.", self.root, passed)
        labels = [int(path.parent.name.lower() != "normal") for path in files]
        if len(set(labels)) < 2:
            raise XrayError(
                f"{self.root} needs a sub-folder named normal and others, one a finding, with radiographs;"
                f" {len(files)} were found; {advice_without_data('chest')}"
            )
        return pd.DataFrame(
            {
                "image_path": [str(path) for path in files],
                "patient": [self._patient(path) for path in files],
                "study": [path.relative_to(self.root).as_posix() for path in files],
                "label_index": labels,
            }
        )

    def _patient(self, path: Path) -> str:
        found = self.patient_pattern.search(identity(path.name))
        return found.group().lower() if found else path.relative_to(self.root).as_posix()
