"""One split of a samples table as an anomalib dataset."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch
from anomalib import TaskType
from anomalib.data import AnomalibDataset, ImageItem
from torchvision.transforms.v2 import Transform
from torchvision.tv_tensors import Image, Mask

from anomalib_xray.data.table import has_masks
from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import read_anomaly_mask, read_radiograph, to_unit_interval


class RadiographDataset(AnomalibDataset):
    """Radiographs in [0, 1] with their labels and, where the table has masks, their anomaly masks.

    anomalib's own reader turns every file into 8-bit RGB, in which 16-bit pictures come out white; this one keeps their
    depth.

    Args:
        samples: A samples table; the rows of one split.
        task: ``segmentation`` to deliver masks, ``classification`` to leave them out. The table of one split
            cannot tell, because normal images need no mask. The default looks for masks in ``samples``.
        augmentations: Applied to the image and its mask, last of all the geometry: a batch stacks what comes out.
    """

    def __init__(
        self, samples: pd.DataFrame, task: TaskType | str | None = None, augmentations: Transform | None = None
    ) -> None:
        super().__init__(augmentations=augmentations)
        self.samples = samples
        if task is None:
            task = TaskType.SEGMENTATION if has_masks(samples) else TaskType.CLASSIFICATION
        self.samples.attrs["task"] = TaskType(task).value

    def __getitem__(self, index: int) -> ImageItem:
        """Reads one image.

        Args:
            index: Row of ``samples``.

        Returns:
            ``image`` (3, H, W), float32 in [0, 1], with equal channels; ``gt_mask`` (H, W), bool, for segmentation;
            ``gt_label`` unless the dataset has images of unknown label, because a batch cannot hold some labels.

        Raises:
            XrayError: The image or its mask cannot be read, or the mask has another size.
        """
        row = self.samples.iloc[index]
        image = read_image(row.image_path)
        mask = None
        if self.task == TaskType.SEGMENTATION:
            mask = read_mask(row.mask_path, image) if row.mask_path else _empty_mask(image)
        if self.augmentations is not None and mask is not None:
            image, mask = self.augmentations(image, mask)
        elif self.augmentations is not None:
            image = self.augmentations(image)
        return ImageItem(
            image=image,
            gt_mask=mask,
            gt_label=torch.tensor(row.label_index) if self._is_labelled else None,
            image_path=row.image_path,
            mask_path=None if mask is None else row.mask_path,
        )

    @property
    def _is_labelled(self) -> bool:
        return bool((self.samples["label_index"] >= 0).all())


def read_image(path: str | Path) -> Image:
    """Reads a radiograph as anomalib wants its images.

    Args:
        path: A PNG, JPEG or DICOM file.

    Returns:
        (3, H, W), float32 in [0, 1], with equal channels.

    Raises:
        XrayError: The file cannot be read.
    """
    return Image(torch.from_numpy(to_unit_interval(read_radiograph(path))).repeat(3, 1, 1))


def read_mask(path: str | Path, image: Image) -> Mask:
    """Reads an anomaly mask.

    Args:
        path: A file of the size of ``image``, read by :func:`anomalib_xray.io.read.read_anomaly_mask`.
        image: The image that the mask belongs to, (3, H, W).

    Returns:
        (H, W), uint8, 0 or 1.

    Raises:
        XrayError: The file cannot be read, or has another size than the image.
    """
    mask = torch.from_numpy(read_anomaly_mask(path)).to(torch.uint8)
    if mask.shape != image.shape[-2:]:
        raise XrayError(
            f"the mask {path} has {tuple(mask.shape)} pixels (height, width) and its image {tuple(image.shape[-2:])};"
            " it must be drawn on the picture that is read."
        )
    return Mask(mask)


def _empty_mask(image: Image) -> Mask:
    return Mask(torch.zeros(image.shape[-2:], dtype=torch.uint8))
