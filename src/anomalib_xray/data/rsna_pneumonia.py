"""RSNA Pneumonia Detection Challenge: chests of adults, normal or with an opacity of the lung."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from anomalib_xray.data.chest import ChallengeDataModule
from anomalib_xray.data.splits import SplitSizes
from anomalib_xray.errors import XrayError

LABELS = {"normal": 0, "lung opacity": 1}
OTHER_CLASS = "no lung opacity / not normal"
"""Third class, abnormal in another way than by an opacity; its images are not used, as published."""

PUBLISHED = SplitSizes(train=3851, val_normal=200, val_abnormal=200, test_normal=1000, test_abnormal=1000)
"""Sizes of arXiv 2206.03935, table 1, and of a validation, which takes images that its pool leaves over."""


class RsnaPneumonia(ChallengeDataModule):
    """Chests of the RSNA Pneumonia Detection Challenge 2018 (stage 2): 8,851 normal, 6,012 with an opacity.

    Each image counts as a patient, because the patients were not published.

    Args:
        root: Folder with ``stage_2_detailed_class_info.csv``, and the pictures in ``stage_2_train_images`` (DICOM) or
            ``train_png_512``.
        sizes: Numbers of images of the splits; by default the published ones.
        settings: Further settings of :class:`~anomalib_xray.data.chest.ChestDataModule`.

    Raises:
        XrayError: At setup, when the data set is missing, unusable or too small.

    Example:
        >>> RsnaPneumonia(root="there").sizes.train
        3851
    """

    title, card = "RSNA Pneumonia Detection Challenge", "rsna_pneumonia"
    table, columns = "stage_2_detailed_class_info.csv", ("patientId", "class")
    folders = ("stage_2_train_images", "train_png_512")
    findings = (*LABELS, OTHER_CLASS)

    def __init__(
        self, root: str | Path = "datasets/rsna-pneumonia", sizes: SplitSizes = PUBLISHED, **settings: Any
    ) -> None:
        super().__init__(root=root, sizes=sizes, **settings)

    def labels(self, rows: pd.DataFrame) -> pd.Series[int]:
        """Labels normal images and those with an opacity."""
        rows = rows.drop_duplicates()  # an image has a row for each opacity
        contradicted = rows[rows["patientId"].duplicated(keep=False)].sort_values("patientId", kind="stable")
        if len(contradicted) > 0:
            first, second = contradicted.index[:2]
            raise XrayError(
                f"lines {first} and {second} of {self.root / self.table} contradict each other about"
                f" {contradicted['patientId'].iloc[0]}; remove the wrong one."
            )
        return rows[rows["class"] != OTHER_CLASS].set_index("patientId")["class"].map(LABELS)
