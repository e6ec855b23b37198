"""Training images without augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from anomalib_xray.data.dataset import read_image

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule

BATCH = 32
"""Images that are handed out together."""


def training_images(model: AnomalibModule, count: int | None = None, seed: int | None = None) -> Iterator[Tensor]:
    """Goes once over the images of the training that is running; what training draws is left as it was.

    They are read from their files, without augmentation. A loader of batches that has no files, as in tests, is asked
    for its batches instead.

    Args:
        model: The model in training, whose pre-processor is used.
        count: Largest number of images; all of them if left out.
        seed: Decides which images are taken, where not all are; without it, and without files, the first ones.

    Yields:
        Pre-processed images, ``(N, 3, S, S)`` in [0, 1], on the model's device.

    Raises:
        XrayError: An image cannot be read.
    """
    loader: Any = model.trainer.train_dataloader
    samples = getattr(getattr(loader, "dataset", None), "samples", None)
    if samples is None or "image_path" not in samples:
        with torch.random.fork_rng(devices=[]):
            batches = [batch.image for batch in loader]
        yield from _first((_pre_processed(model, images) for images in batches), count)
        return
    paths = [str(path) for path in samples["image_path"]]
    if count is not None and count < len(paths):
        order = torch.arange(len(paths))
        if seed is not None:
            order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(seed))
        paths = [paths[place] for place in order[:count].tolist()]
    for start in range(0, len(paths), BATCH):
        yield torch.cat([_pre_processed(model, read_image(path)[None]) for path in paths[start : start + BATCH]])


def _first(batches: Iterator[Tensor], count: int | None) -> Iterator[Tensor]:
    """Cuts the batches off after so many images."""
    images = (image for batch in batches for image in batch)
    while taken := list(islice(images, BATCH if count is None else min(BATCH, count))):
        count = None if count is None else count - len(taken)
        yield torch.stack(taken)


def _pre_processed(model: AnomalibModule, images: Tensor) -> Tensor:
    """Images ``(N, 3, H, W)`` as the network sees them, on the model's device."""
    images = images.as_subclass(Tensor).to(model.device)
    return model.pre_processor(images) if model.pre_processor else images
