"""Training images in memory, read once for all networks."""

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
        """The image alone, ``(3, S, S)``: its label is nobody's business in training."""
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
        pre_process: What the model does to images ``(N, 3, H, W)`` before its network.
        seed: Seed of whatever is random in reading; the generators are afterwards as before.
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
    """Refuses images that would not fit.

    Args:
        images: Number of images.
        image_size: Side of an image.
        limit: Memory that they may take, in GiB.

    Raises:
        XrayError: They take more.
    """
    needed = images * image_size**2 * 4 / GIB
    if needed > limit:
        msg = (
            f"{images} training images of {image_size} pixels take {needed:.1f} GiB of memory, more than memory_limit "
            f"({limit:g} GiB); raise it, or lower image_size or the number of images."
        )
        raise XrayError(msg)
