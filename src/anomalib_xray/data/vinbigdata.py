"""VinBigData Chest X-ray Abnormalities Detection (VinDr-CXR): chests of adults, each read by three radiologists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from anomalib_xray.data.chest import ChallengeDataModule
from anomalib_xray.data.splits import SplitSizes

PUBLISHED = SplitSizes(train=4000, val_normal=200, val_abnormal=200, test_normal=1000, test_abnormal=1000)
"""Sizes of arXiv 2206.03935, table 1, and of a validation, which takes images that its pool leaves over."""


class VinBigData(ChallengeDataModule):
    """Chests of the VinBigData challenge 2020: 10,606 without a finding, 4,394 with one.

    An image is abnormal when any of its three readers found anything. Each image counts as a patient, because the
    patients were not published.

    Args:
        root: Folder with ``train.csv``, and the pictures in ``train`` (DICOM) or ``train_png_512``.
        sizes: Numbers of images of the splits; by default the published ones.
        settings: Further settings of :class:`~anomalib_xray.data.chest.ChestDataModule`.

    Raises:
        XrayError: At setup, when the data set is missing, unusable or too small.

    Example:
        >>> VinBigData(root="there").sizes.train
        4000
    """

    title, card = "VinBigData challenge", "vinbigdata"
    table, columns = "train.csv", ("image_id", "class_name")
    folders = ("train", "train_png_512")

    def __init__(
        self, root: str | Path = "datasets/vinbigdata", sizes: SplitSizes = PUBLISHED, **settings: Any
    ) -> None:
        super().__init__(root=root, sizes=sizes, **settings)

    def labels(self, rows: pd.DataFrame) -> pd.Series[int]:
        """Labels all pictures of the table, whose copies write "No finding" in several ways."""
        return (rows["class_name"] != "no finding").groupby(rows["image_id"]).any().astype(int)
