"""MURA, the musculoskeletal radiographs of Stanford's machine learning group."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pandas as pd

from anomalib_xray.data.datamodule import RadiographDataModule
from anomalib_xray.data.mura_layout import body_part_folders, read_index, scan_folders
from anomalib_xray.data.table import samples_table, split_by_recipe
from anomalib_xray.errors import XrayError
from anomalib_xray.stock_command import advice_without_data


class Mura(RadiographDataModule):
    """MURA v1.1 with the split of arXiv 2001.10883, by patient, made from MURA's train part.

    MURA's patient numbers are the same over body parts and many patients were examined at several, so with several
    parts the recipe is applied once to all patients together. A patient is abnormal when a study of a chosen part is.

    Args:
        root: MURA's folder, which holds ``train`` and ``valid``.
        body_parts: One or several of HAND, hand, XR_HAND and so on; or ``all``.
        index: List the images from the ``folders`` or from MURA's own ``csv`` files.
        test_on: ``test`` tests on the recipe's test patients; ``holdout`` on MURA's official valid part, which the
            paper left unused.
        settings: Further settings of :class:`~anomalib_xray.data.datamodule.RadiographDataModule`.

    Raises:
        XrayError: A body part is unknown; or, at setup, MURA is missing or unusable.
    """

    def __init__(
        self,
        root: str | Path = "datasets/MURA-v1.1",
        body_parts: str | list[str] = "XR_HAND",
        index: Literal["folders", "csv"] = "folders",
        test_on: Literal["test", "holdout"] = "test",
        **settings: Any,  # noqa: ANN401  # resolved by the command line from the parent
    ) -> None:
        super().__init__(root=root, **settings)
        self.body_parts = body_part_folders(body_parts)
        self.index = index
        self.test_on = test_on

    @property
    def name(self) -> str:  # type: ignore[override]  # a property in anomalib too, an attribute in lightning
        """The body part, or the data folder's name when there are several."""
        return self.body_parts[0] if len(self.body_parts) == 1 else super().name

    def build_samples(self) -> pd.DataFrame:
        """Lists the chosen body parts.

        Returns:
            A samples table with splits.

        Raises:
            XrayError: MURA is missing, or its files contradict each other.
        """
        if not (self.root / "train").is_dir():
            raise XrayError(f"MURA v1.1 is not at {self.root}: {advice_without_data('mura')}")
        samples = split_by_recipe(self._official("train"), self.split_seed)
        if self.test_on == "holdout":
            holdout = self._official("valid").assign(split="test")
            samples = pd.concat([samples[samples["split"] != "test"], holdout], ignore_index=True)
        return samples

    def mask_path(self, relative: str, label_index: int) -> str:
        """Path of an image's anomaly mask; MURA has none.

        Args:
            relative: The image's path below the root.
            label_index: 0 normal, 1 abnormal.

        Returns:
            An absolute path, or nothing.
        """
        del relative, label_index
        return ""

    def _official(self, official: str) -> pd.DataFrame:
        """The samples table, without splits, of one of MURA's own parts."""
        list_images = scan_folders if self.index == "folders" else read_index
        images = pd.concat([list_images(self.root, official, part) for part in self.body_parts], ignore_index=True)
        paths = [str(self.root / relative) for relative in images["relative"]]
        masks = map(self.mask_path, images["relative"], images["label_index"])
        return samples_table(images.assign(image_path=paths, mask_path=list(masks)))
