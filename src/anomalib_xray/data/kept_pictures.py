"""Pictures of a training, decoded and reduced once and kept for all its epochs and reading processes."""

from __future__ import annotations

import errno
import logging
import os
import struct
import tempfile
from collections.abc import Callable, Sequence
from io import FileIO
from multiprocessing.context import get_spawning_popen
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor
from torchvision.tv_tensors import Image, Mask

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

    def open(self, folder: Path | None) -> None:
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
