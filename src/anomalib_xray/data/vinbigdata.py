"""VinBigData Chest X-ray Abnormalities Detection (VinDr-CXR): chests of adults, each read by three radiologists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from anomalib_xray.data.chest import ChestDataModule, find_pictures, known_findings, label_pictures, read_labels
from anomalib_xray.data.sizes import SplitSizes
from anomalib_xray.stock_command import advice_without_data

FINDINGS = "train.csv"

FOLDERS = ("train", "train_png_512")
"""Where the pictures are: as downloaded, DICOM, or as the code of arXiv 2206.03935 converts them."""

NOTHING_FOUND = "no finding"
"""In lower case: copies of the table write it in several ways."""

PUBLISHED = SplitSizes(train=4000, val_normal=200, val_abnormal=200, test_normal=1000, test_abnormal=1000)
"""Sizes of arXiv 2206.03935, table 1; it has no validation, which takes images that its pool leaves over."""


class VinBigData(ChestDataModule):
    """Chests of the VinBigData challenge 2020: 10,606 without a finding, 4,394 with one.

    An image is abnormal when any of its three readers found anything. Each image counts as a patient: whose images are
    whose was not published.

    Args:
        root: Folder with ``train.csv``, and the pictures in ``train`` (DICOM) or ``train_png_512``.
        sizes: Numbers of images of the splits; by default the published ones.
        settings: Further settings of :class:`~anomalib_xray.data.chest.ChestDataModule`.

    Raises:
        XrayError: At setup, when the data set is missing, unusable or too small.
    """

    def __init__(
        self,
        root: str | Path = "datasets/vinbigdata",
        sizes: SplitSizes = PUBLISHED,
        **settings: Any,  # noqa: ANN401  # resolved by the command line from the parent
    ) -> None:
        super().__init__(root=root, sizes=sizes, **settings)

    def list_images(self) -> pd.DataFrame:
        """Lists all images of the train part.

        Returns:
            Columns ``image_path``, ``patient``, ``study``, ``label_index``.

        Raises:
            XrayError: The data set is missing or unusable.
        """
        missing = (
            f"The VinBigData challenge is not at {self.root}: it needs {FINDINGS} and the pictures in"
            f" {' or '.join(FOLDERS)}; {advice_without_data('vinbigdata')}"
        )
        findings = read_labels(self.root / FINDINGS, ["image_id", "class_name"], missing)
        findings = known_findings(findings, "class_name", self.root / FINDINGS)
        abnormal = (findings["class_name"] != NOTHING_FOUND).groupby(findings["image_id"]).any().astype(int)
        return label_pictures(abnormal, find_pictures(self.root, FOLDERS, missing), self.root / FINDINGS)
