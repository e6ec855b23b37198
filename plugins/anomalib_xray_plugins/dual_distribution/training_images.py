"""The images of a training: labelled as normal, and unlabelled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from anomalib.data import ImageBatch, ImageItem
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from anomalib_xray.errors import XrayError
from anomalib_xray.transforms.augmentation import augmentation_of

GIB = 2**30

READ_AT_ONCE = 32
"""Images that are read and prepared together."""


class Remembered(Dataset[ImageItem]):
    """A data set whose images were read before; it stands in for the one that reads files.

    Args:
        source: The data set that read them.
        images: Pre-processed images, ``(N, 1, S, S)`` in [0, 1].
    """

    def __init__(self, source: Any, images: Tensor) -> None:  # a data set of anomalib or of others
        self.source = source
        self.images = images

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> ImageItem:
        """The image ``(3, S, S)`` without its label, which training does not use."""
        return ImageItem(image=self.images[index].repeat(3, 1, 1))

    def collate_fn(self, items: list[ImageItem]) -> ImageBatch:
        """Puts a batch together."""
        return ImageBatch(image=images_of(items))

    def __getattr__(self, name: str) -> Any:  # whatever else the data set has
        if name.startswith("__") or name == "source":
            raise AttributeError(name)
        return getattr(self.source, name)


def images_of(items: Sequence[ImageItem]) -> Tensor:
    """The images of items and nothing else of them, ``(N, 3, H, W)``."""
    return torch.stack([cast("Tensor", item.image).as_subclass(Tensor) for item in items])


def read_images(
    dataset: Any,  # a data set of anomalib or of others
    pre_process: Callable[[Tensor], Tensor],
    seed: int,
    workers: int = 0,
) -> Tensor:
    """Reads all images of a data set in its order; labels are not looked at.

    Args:
        dataset: Its items have an ``image``, ``(3, H, W)`` in [0, 1], all of one size.
        pre_process: Pre-processing of images ``(N, 3, H, W)``.
        seed: Seed of random reading; the generators are restored afterwards.
        workers: Processes that read.

    Returns:
        Pre-processed images, ``(N, 1, S, S)`` in [0, 1].
    """
    augmentation = augmentation_of(dataset)

    def as_trained_on(images: Tensor) -> Tensor:
        images = pre_process(images)
        return images if augmentation is None else augmentation.vary_brightness(images)

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return from_batches(DataLoader(dataset, READ_AT_ONCE, num_workers=workers, collate_fn=images_of), as_trained_on)


def from_batches(batches: Iterable[Tensor], pre_process: Callable[[Tensor], Tensor]) -> Tensor:
    """Pre-processes batches of images ``(N, 3, H, W)`` and puts them together as ``(N, 1, S, S)``."""
    with torch.no_grad():
        return torch.cat([pre_process(batch).mean(1, keepdim=True).cpu() for batch in batches])


def check_memory(images: int, image_size: int, limit: float) -> None:
    """Refuses images that take more memory than the limit in GiB."""
    needed = images * image_size**2 * 4 / GIB
    if needed > limit:
        msg = (
            f"{images} training images of {image_size} pixels take {needed:.1f} GiB of memory, more than memory_limit "
            f"({limit:g} GiB); raise it, or lower image_size or the number of images."
        )
        raise XrayError(msg)


MOST_EPOCHS = 1_000_003
"""Distance of the seeds of two readings in one epoch, more than a training has epochs."""


class TrainingImages:
    """All images of a training in memory, the normal ones first.

    A datamodule's train split is read once and then replaced by what was read until :meth:`release`, so that its loader
    opens no file any more. Where images are augmented, they are read and augmented anew for every epoch.

    Args:
        pre_process: Pre-processing of images ``(N, 3, H, W)``.
        image_size: Side S of pre-processed images.
        limit: Memory that the images may take, in GiB.
        seed: Seed of augmentations.

    Attributes:
        images: ``(N, 1, S, S)`` in [0, 1].
        normal: Number of those labelled as normal.
        batch_size: Images of a batch.
    """

    def __init__(self, pre_process: Callable[[Tensor], Tensor], image_size: int, limit: float, seed: int) -> None:
        self.pre_process = pre_process
        self.image_size = image_size
        self.limit = limit
        self.seed = seed
        self.images = torch.empty(0)
        self.normal = 0
        self.batch_size = 1
        self._datamodule: Any = None
        self._changing = False
        self._epoch: int | None = None

    @property
    def unlabelled(self) -> int:
        """Number of unlabelled images."""
        return len(self.images) - self.normal

    def take_datamodule(self, datamodule: Any, augmented: bool) -> None:  # anomalib's or any other
        """Reads the train split and, where the datamodule has one, the pool of unlabelled images.

        Args:
            datamodule: It has ``train_data``, and maybe ``unlabelled_data``.
            augmented: Whether its images differ from epoch to epoch.
        """
        self._datamodule = datamodule
        self._changing = augmented or getattr(datamodule, "train_augmentations", None) is not None
        self.batch_size = datamodule.train_batch_size
        self.read(0)

    def take_loader(self, loader: Any) -> None:
        """Reads one epoch of a loader that has no datamodule, whose batches have an ``image``, ``(N, 3, H, W)``."""
        with torch.random.fork_rng(devices=[]):
            batches = [batch.image for batch in loader]
        check_memory(sum(map(len, batches)), self.image_size, self.limit)
        self.images = from_batches(batches, self.pre_process)
        self.normal = len(self.images)
        self.batch_size = max(map(len, batches))

    def read(self, epoch: int) -> None:
        """Reads the datamodule's images for an epoch, unless that is done and they are always the same.

        Raises:
            XrayError: There are more images than fit into the limit.
        """
        if self._datamodule is None or (self._epoch is not None and (epoch == self._epoch or not self._changing)):
            return
        self._epoch = epoch
        train, pool = self._train_data(), getattr(self._datamodule, "unlabelled_data", None)
        check_memory(len(train) + len(pool or ()), self.image_size, self.limit)
        workers, seed = getattr(self._datamodule, "num_workers", 0), self.seed + epoch
        normal = read_images(train, self.pre_process, seed, workers)
        self.normal = len(normal)
        self.images = normal
        if pool is not None and len(pool) > 0:
            self.images = torch.cat([normal, read_images(pool, self.pre_process, seed + MOST_EPOCHS, workers)])
        self._datamodule.train_data = Remembered(train, normal)

    def release(self) -> None:
        """Gives the datamodule its train split back."""
        if self._datamodule is not None:
            self._datamodule.train_data = self._train_data()

    def _train_data(self) -> Any:  # as above
        """The train split that reads files, also after a training that broke off."""
        data = self._datamodule.train_data
        return data.source if isinstance(data, Remembered) else data
