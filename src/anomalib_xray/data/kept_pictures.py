"""Pictures of a training, decoded and reduced once and kept for all its epochs and reading processes."""

from __future__ import annotations

import errno
import logging
import os
import struct
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import FileIO
from multiprocessing.context import get_spawning_popen
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.data import AnomalibDataset
from numpy.typing import DTypeLike, NDArray
from torch import Tensor
from torchvision.transforms.v2 import Compose, Resize, Transform
from torchvision.tv_tensors import Image, Mask

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import read_anomaly_mask, read_radiograph, to_unit_interval
from anomalib_xray.transforms import Augmentation, PadResize, SquarePad
from anomalib_xray.transforms.foreground import call_on_plain
from anomalib_xray.transforms.geometry import shrink, shrink_mask

logger = logging.getLogger(__name__)

Read = Callable[[str, str], tuple[Image, Mask | None]]
"""Reads a picture (1, h, w) in [0, 1] and its mask (h, w) by their paths; no mask where its path is empty."""

_HEADER = struct.Struct("<qii")
"""Before each picture: stamp of its files (0 until it is kept), height, width."""

GIB = 2**30

_PAGE = 4096
"""Places begin at multiples of a page, so that parts that nobody writes take no memory; the first one holds a flag."""

_WHITE = np.float32(65535)
"""White in 16 bits; 1/255, the faintest foreground, is exactly 257 of it."""


class KeptPictures:
    """Reduced pictures, filled by whoever reads one first, in a file without a name that all processes share.

    The file is in memory, or on a disk where memory is short; it vanishes with the last process that uses it, so that
    nothing of an earlier run can be taken for a picture of this one. A file that changed is read again. Where there is
    no room left, a warning says so, and pictures that are not kept yet are read from their files.

    Args:
        paths: Pictures that are read.
        side: Largest height and width of a reduced picture.
        read: Reads and reduces a picture.
        dtype: ``uint16`` keeps full depth, ``float32`` what was read bit by bit.
        masks: Whether there is a picture with a mask.
    """

    def __init__(self, paths: Sequence[str], side: int, read: Read, dtype: DTypeLike, masks: bool) -> None:
        self._read, self._side = read, side
        self._places = {path: place for place, path in enumerate(paths)}
        self._dtype = np.dtype(dtype)
        self._mask_at = _HEADER.size + side * side * self._dtype.itemsize
        self._stride = -(-(self._mask_at + masks * side * side) // _PAGE) * _PAGE
        self._file: FileIO | None = None

    @property
    def size(self) -> int:
        """Bytes that all pictures take at most."""
        return _PAGE + len(self._places) * self._stride

    def make_room(self, folder: Path | None) -> None:
        """Makes the file, before processes start that share it.

        Args:
            folder: Folder of the file; none for memory, or a folder for temporary files where a system has none.
        """
        try:
            self._file = _in_memory() if folder is None else _on_disk(folder)
            _write(self._file, bytes(_PAGE), 0)
        except OSError as error:
            self._file = None
            logger.warning("Pictures are read from their files in every epoch: %s.", error)

    def __call__(self, image_path: str, mask_path: str) -> tuple[Image, Mask | None]:
        """Gives a picture (1, h, w), float32 in [0, 1], and its mask (h, w), uint8, where ``mask_path`` is not empty.

        Raises:
            XrayError: A file cannot be read.
        """
        place = self._places.get(image_path)
        stamp, start = _stamp(image_path, mask_path), _PAGE + (place or 0) * self._stride
        file = self._file if stamp is not None and place is not None else None
        if file is not None:
            # Beyond the end of the file there is nothing yet.
            found, *shape = _HEADER.unpack(os.pread(file.fileno(), _HEADER.size, start).ljust(_HEADER.size, b"\0"))
            if found == stamp:
                levels = _array(file, start + _HEADER.size, shape, self._dtype)
                mask = _array(file, start + self._mask_at, shape, np.dtype(np.uint8)) if mask_path else None
                return self._picture(levels), None if mask is None else Mask(torch.from_numpy(mask))
        image, its_mask = self._read(image_path, mask_path)
        levels = image[0].as_subclass(Tensor).numpy()
        levels = np.rint(levels * _WHITE).astype(np.uint16) if self._dtype == np.uint16 else levels
        if file is not None and max(levels.shape) <= self._side:
            self._keep(file, start, stamp or 0, levels, its_mask)
        # In the depth of what is kept, so that it does not matter who read it first.
        return self._picture(levels), its_mask

    @staticmethod
    def _picture(levels: NDArray[Any]) -> Image:
        return Image(
            torch.from_numpy(levels.astype(np.float32) / _WHITE if levels.dtype == np.uint16 else levels)[None]
        )

    def _keep(self, file: FileIO, start: int, stamp: int, levels: NDArray[Any], mask: Mask | None) -> None:
        """Writes a picture, and its header last: until then nobody takes it."""
        if os.pread(file.fileno(), 1, 0) != b"\0":
            return
        try:
            _write(file, levels.tobytes(), start + _HEADER.size)
            if mask is not None:
                covered = mask.as_subclass(Tensor).numpy().astype(np.uint8)
                _write(file, covered.tobytes(), start + self._mask_at)
            _write(file, _HEADER.pack(stamp, *levels.shape), start)
        except OSError as error:
            os.pwrite(file.fileno(), b"\1", 0)  # its page was made at the start
            logger.warning("No further pictures are kept; they are read from their files in every epoch: %s.", error)

    def __deepcopy__(self, _: Any) -> KeptPictures:
        """Gives itself: copies of a data set share what is kept."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """State for another process: one that is being started gets the file, and others do without."""
        state = vars(self) | {"_file": None}
        if self._file is not None and get_spawning_popen() is not None:
            from multiprocessing.reduction import DupFd

            state["_file"] = DupFd(self._file.fileno())  # not on Windows, which has no such file
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Opens the file in the process that was started."""
        vars(self).update(state)
        if self._file is not None:
            self._file = FileIO(self._file.detach(), "r+b")  # type: ignore[attr-defined]  # what __getstate__ put there


def _stamp(*paths: str) -> int | None:
    """Number that tells whether files changed, never 0; none where they cannot be looked at."""
    try:
        found = [os.stat(path) for path in paths if path]  # noqa: PTH116  # a tenth of Path's time
    except OSError:  # for the reader to say
        return None
    return hash(tuple(number for file in found for number in (file.st_mtime_ns, file.st_size, file.st_ino))) | 1


def _in_memory() -> FileIO:
    if hasattr(os, "memfd_create"):
        return FileIO(os.memfd_create("pictures"), "r+b")
    return _on_disk(Path(tempfile.gettempdir()))


def _on_disk(folder: Path) -> FileIO:
    if not hasattr(os, "preadv"):
        raise OSError(errno.ENOTSUP, "this system has no files that processes share without a name")
    return tempfile.TemporaryFile(dir=folder, buffering=0)


def _array(file: FileIO, start: int, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    array = np.empty(tuple(shape), dtype)
    os.preadv(file.fileno(), [array.data], start)
    return array


def _write(file: FileIO, content: bytes, start: int) -> None:
    if os.pwrite(file.fileno(), content, start) < len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_picture(image_path: str, mask_path: str) -> tuple[Image, Mask | None]:
    """Reads a radiograph (1, H, W), float32 in [0, 1], and its anomaly mask (H, W) where ``mask_path`` is not empty.

    Raises:
        XrayError: A file cannot be read, or the mask has another size than the image.
    """
    image = Image(torch.from_numpy(to_unit_interval(read_radiograph(image_path)))[None])
    return image, read_mask(mask_path, image) if mask_path else None


def transformed(transform: Transform | None, image: Image, mask: Mask | None) -> tuple[Image, Mask | None]:
    """Applies a transform to a grey image (1, H, W) and its mask (H, W), and gives the image three equal channels.

    Our own transforms see the one channel, so that the work is done once, and others all three.
    """
    steps = transform.transforms if isinstance(transform, Compose) else [transform]
    if not all(step is None or isinstance(step, _OF_ONE_CHANNEL) for step in steps):
        image = _three_channels(image)
    for step in steps:
        if step is not None:
            image, mask = (step(image), None) if mask is None else step(image, mask)
    return _three_channels(image), mask


_GEOMETRY = PadResize, SquarePad, Resize
_OF_ONE_CHANNEL = Augmentation, *_GEOMETRY

NEAR = 3
"""Longer side of a picture that is kept for augmentation, in sides of the model."""


def keep_pictures(dataset: AnomalibDataset, augmentation: Transform | None) -> KeptPictures | None:
    """Makes the place where the pictures of a data set are kept reduced, which needs room before it is read.

    What is the same in every epoch is kept: with no augmentation, or with one that only flips, the pictures as they
    leave the geometry, and with others pictures of :data:`NEAR` times that size.

    Args:
        dataset: It reads as ours do; its ``augmentations`` are the augmentation and transforms that draw nothing.
        augmentation: The augmentation among them.

    Returns:
        The place, or nothing where the transforms do not tell the size of the model.
    """
    transform = dataset.augmentations
    steps = transform.transforms if isinstance(transform, Compose) else [transform]
    steps = [step for step in steps if step is not augmentation]
    size = _size_of(steps[-1]) if steps and all(isinstance(step, _GEOMETRY) for step in steps) else None
    if size is None:
        return None
    centred = not any(isinstance(step, PadResize) and step.padding != "centred" for step in steps)
    flips = isinstance(augmentation, Augmentation) and augmentation.only_flips and centred
    samples = dataset.samples
    paths, masks = samples["image_path"].tolist(), "mask_path" in samples and bool(samples["mask_path"].any())
    if augmentation is None or flips:
        return KeptPictures(paths, size, _Reduced(Compose(steps)), np.float32, masks)
    return KeptPictures(paths, NEAR * size, _Reduced(NEAR * size), np.uint16, masks)


def _size_of(step: Transform) -> int | None:
    """Longer side of the squares that leave a transform; nothing where that depends on the picture."""
    size = getattr(step, "size", None)
    return max(size, default=None) if isinstance(size, list | tuple) else size


@dataclass
class _Reduced:
    """Reads a picture and reduces it: to a longer side in pixels, or by a transform."""

    by: int | Transform

    def __call__(self, image_path: str, mask_path: str) -> tuple[Image, Mask | None]:
        image, mask = read_picture(image_path, mask_path)
        if isinstance(self.by, int):
            image = call_on_plain(lambda plain: shrink(plain, self.by), image)
            return image, None if mask is None else call_on_plain(lambda plain: shrink_mask(plain, self.by), mask)
        image, mask = transformed(self.by, image, mask)
        return image[:1], mask


def _three_channels(image: Tensor) -> Image:
    return Image(image.as_subclass(Tensor).expand(3, -1, -1))


def read_mask(path: str | Path, image: Image) -> Mask:
    """Reads the anomaly mask of an image (3, H, W): (H, W), uint8, 0 or 1.

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
