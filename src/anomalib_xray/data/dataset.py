"""One split of a samples table as an anomalib dataset."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from anomalib import TaskType
from anomalib.data import AnomalibDataset, ImageBatch, ImageItem, PredictDataset
from torch.utils.data import IterableDataset, get_worker_info
from torchvision.transforms.v2 import Compose, Transform
from torchvision.tv_tensors import Image, Mask

from anomalib_xray.data.kept_pictures import GIB, KeptPictures, keep_pictures, read_picture, transformed
from anomalib_xray.data.table import has_masks
from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import images_of
from anomalib_xray.io.paths import absolute
from anomalib_xray.io.read import read_radiograph, to_unit_interval

logger = logging.getLogger(__name__)


class Draw(int):
    """Number of an image in its data set, with the seed of whatever is drawn for it; a plain number beside.

    >>> Draw(3, seed=7) == 3, Draw(3, seed=7).seed
    (True, 7)
    """

    seed: int

    def __new__(cls, index: int, seed: int = 0) -> Draw:
        """Makes a number that carries a seed."""
        drawn = super().__new__(cls, index)
        drawn.seed = seed
        return drawn


class _ReadsRadiographs:
    """Reading of :class:`RadiographDataset`, which data sets of anomalib's own are given too."""

    kept: KeptPictures | None = None
    """Where images are read that are kept reduced; each is read from its file where there is none."""

    _listed: tuple[pd.DataFrame, list[tuple[str, Any, int]], bool] | None = None

    def __getitem__(self: Any, index: int) -> ImageItem:  # of a data set
        """Reads the image of a row.

        With a :class:`Draw`, augmentations draw from its seed and leave torch's generator as it was.

        Returns:
            ``image`` (3, H, W), float32 in [0, 1], with equal channels; ``gt_mask`` (H, W), bool, for segmentation;
            ``gt_label`` unless the dataset has images of unknown label, because a batch has all labels or none.

        Raises:
            XrayError: The image or its mask cannot be read, or the mask has another size.
        """
        rows, is_labelled = self._rows()
        image_path, mask_path, label_index = rows[index]
        masked = self.task == TaskType.SEGMENTATION
        read = self.kept or read_picture
        image, mask = read(image_path, mask_path if masked and mask_path else "")
        if isinstance(index, Draw):
            state = torch.get_rng_state()
            torch.default_generator.manual_seed(index.seed)
            image, mask = transformed(self.augmentations, image, mask)
            torch.set_rng_state(state)
        else:
            image, mask = transformed(self.augmentations, image, mask)
        if masked and mask is None:
            mask = Mask(torch.zeros(image.shape[-2:], dtype=torch.bool))
        return ImageItem(
            image=image,
            gt_mask=mask,
            gt_label=torch.tensor(label_index) if is_labelled else None,
            image_path=image_path,
            mask_path=mask_path if masked else None,
        )

    def _rows(self: Any) -> tuple[list[tuple[str, Any, int]], bool]:
        """Paths and labels of the samples, and whether all have one: a table of pandas is slow to ask row by row."""
        samples: pd.DataFrame = self.samples
        if self._listed is None or self._listed[0] is not samples:
            masks = samples["mask_path"] if "mask_path" in samples else samples["image_path"].map(lambda _: "")
            columns = (column.tolist() for column in (samples["image_path"], masks, samples["label_index"]))
            self._listed = samples, list(zip(*columns, strict=True)), bool((samples["label_index"] >= 0).all())
        _, rows, is_labelled = self._listed
        return rows, is_labelled


class RadiographDataset(_ReadsRadiographs, AnomalibDataset):
    """Radiographs in [0, 1] with their labels and, where the table has masks, their anomaly masks.

    anomalib's own reader turns every file into 8-bit RGB, in which 16-bit pictures come out white; this one keeps their
    depth.

    Args:
        samples: The rows of one split of a samples table.
        task: ``segmentation`` to deliver masks, ``classification`` to leave them out; by default whether ``samples``
            has any. A split of normal images alone cannot tell.
        augmentations: Applied to the image and its mask, last of all the geometry, because a batch needs one size.
    """

    def __init__(
        self, samples: pd.DataFrame, task: TaskType | str | None = None, augmentations: Transform | None = None
    ) -> None:
        super().__init__(augmentations=augmentations)
        self.samples = samples
        if task is None:
            task = TaskType.SEGMENTATION if has_masks(samples) else TaskType.CLASSIFICATION
        self.samples.attrs["task"] = TaskType(task).value


class RadiographFolder(IterableDataset[ImageItem]):
    """The radiographs of a folder, or one file, for ``engine.predict(model, dataset=RadiographFolder(path))``.

    anomalib's ``PredictDataset`` reads 8 bits and leaves DICOM files out; with a model of this project this one takes
    its place wherever a path is given. A file that cannot be read is passed over, with its reason in the log.

    Args:
        path: A file, or a folder that is searched with all below it.
        transform: Applied to each image.

    Attributes:
        image_filenames: The files.
        failures: Reasons by file, of those that could not be read.

    Raises:
        XrayError: There is no such path, or no radiograph.

    Example:
        >>> RadiographFolder("nowhere")
        Traceback (most recent call last):
        anomalib_xray.errors.XrayError: nowhere does not exist: name a radiograph, or a folder of radiographs.
    """

    def __init__(self, path: str | Path, transform: Transform | None = None) -> None:
        super().__init__()
        if not Path(path).exists():
            raise XrayError(f"{path} does not exist: name a radiograph, or a folder of radiographs.")
        self.image_filenames = [absolute(file) for file in images_of(Path(path))]
        self.transform = transform
        self.failures: dict[Path, str] = {}

    @classmethod
    def in_place_of(cls, dataset: PredictDataset) -> RadiographFolder:
        """The files of a data set of anomalib's.

        Raises:
            XrayError: The folder holds radiographs that the data set leaves out.
        """
        files = [absolute(file) for file in dataset.image_filenames]
        if len(files) == 1:
            return cls(files[0], dataset.transform)
        folder = cls(os.path.commonpath([file.parent for file in files]), dataset.transform)
        if left_out := sorted(set(folder.image_filenames) - set(files)):
            raise XrayError(
                f"PredictDataset leaves out {len(left_out)} radiographs, the first is {left_out[0]}: give"
                " anomalib_xray.data.RadiographFolder instead."
            )
        folder.image_filenames = files
        return folder

    def __iter__(self) -> Iterator[ImageItem]:
        """Reads one image after the other: ``image`` (3, H, W), float32 in [0, 1], equal channels, and ``image_path``.

        Raises:
            XrayError: None of the files can be read.
        """
        self.failures = {}
        worker = get_worker_info()
        own = self.image_filenames if worker is None else self.image_filenames[worker.id :: worker.num_workers]
        for path in own:
            try:
                image = read_image(path)
            except XrayError as error:
                self.failures[path] = str(error)
                logger.warning("Passed over: %s", error)
                continue
            yield ImageItem(image=image if self.transform is None else self.transform(image), image_path=str(path))
        if own and len(self.failures) == len(own):
            raise XrayError(f"None of {len(own)} files can be read: {self.failures[own[0]]}")

    @property
    def collate_fn(self) -> Callable[[list[ImageItem]], Any]:
        """Function that makes a batch of items."""
        return ImageBatch.collate


def read_as_radiographs(dataset: object, geometry: Transform | None, keep: bool = False) -> None:
    """Changes a data set of anomalib's own, such as those of ``Folder``, to read as ours do; others are left alone.

    The geometry gives an image the size of the model, so that a batch is not stretched to its largest image. With
    ``keep``, pictures that take no more than a GiB when reduced are kept, as a training reads them again and again.
    """
    if not isinstance(dataset, AnomalibDataset):
        return
    kind = type(dataset)
    if kind.__getitem__ is not AnomalibDataset.__getitem__:
        return
    # Not as a further base: Python lets an object change to a class of the same layout only.
    ours = {name: vars(_ReadsRadiographs)[name] for name in ("__getitem__", "_rows", "kept", "_listed")}
    dataset.__class__ = type(
        kind.__name__, (kind,), {**ours, "__reduce__": lambda self: (_reading, (kind, vars(self)))}
    )
    if geometry is not None:
        augmentation = dataset.augmentations
        dataset.augmentations = Compose([geometry] if augmentation is None else [augmentation, geometry])
        kept = keep_pictures(dataset, augmentation) if keep else None
        if kept is not None and kept.size <= GIB:
            kept.make_room(None)
            dataset.kept = kept  # type: ignore[attr-defined]  # of the class that it was just given


def _reading(kind: type[AnomalibDataset], state: dict[str, Any]) -> AnomalibDataset:
    """Makes such a data set again in another process, as its class has no name in a module."""
    dataset = kind.__new__(kind)
    vars(dataset).update(state)
    read_as_radiographs(dataset, None)
    return dataset


def read_image(path: str | Path) -> Image:
    """Reads a radiograph as anomalib wants its images: (3, H, W), float32 in [0, 1], with equal channels.

    Raises:
        XrayError: The file cannot be read.
    """
    return Image(torch.from_numpy(to_unit_interval(read_radiograph(path))).repeat(3, 1, 1))
