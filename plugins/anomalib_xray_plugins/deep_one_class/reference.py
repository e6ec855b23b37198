"""Pictures of other things than the target, with classes, which a one-class network learns to tell apart."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2 import Transform

from anomalib_xray.data.dataset import read_image
from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import list_radiographs
from anomalib_xray.io.paths import absolute

logger = logging.getLogger(__name__)

CACHE_BYTES = 1 << 30
"""Pictures are kept in memory at the size of the network up to so much; others are read again."""


class ReferencePictures:
    """The pictures below a folder: each sub-folder is a class, or the folder itself is the only one.

    Args:
        root: The folder.
        geometry: What gives a picture (3, H, W) the size of the network.

    Attributes:
        classes: Names of the classes, in alphabetical order.
        files: The pictures of each class.

    Raises:
        XrayError: The folder is missing or holds no pictures.
    """

    def __init__(self, root: str | Path, geometry: Callable[[Tensor], Tensor]) -> None:
        self.root = absolute(root)
        if not self.root.is_dir():
            msg = f"reference_root is {root}, which is no folder; give one that has a sub-folder of pictures per class."
            raise XrayError(msg)
        found: dict[str, list[Path]] = {}
        loose: list[Path] = []
        for path in list_radiographs(self.root):
            *folders, _ = path.relative_to(self.root).parts
            (found.setdefault(folders[0], []) if folders else loose).append(path)
        if not found:
            found = {self.root.name: loose} if loose else {}
        elif loose:
            logger.warning("%d pictures in %s itself belong to no class and are left out.", len(loose), self.root)
        if not found:
            msg = f"reference_root is {root}, but there is no PNG, JPEG or DICOM file in it; give another folder."
            raise XrayError(msg)
        self.classes = list(found)
        self.files = list(found.values())
        self.geometry = geometry
        self._cache: dict[Path, Tensor] = {}
        self._cached_bytes = 0

    def batch(
        self, size: int, seed: int, augmentation: Transform | Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draws pictures: all classes have the same chance, and so do the pictures of a class.

        Args:
            size: How many.
            seed: Decides which.
            augmentation: Applied to each picture.

        Returns:
            Pictures ``(size, 3, S, S)`` in [0, 1], not pre-processed but for their geometry, and their classes
            ``(size,)``.

        Raises:
            XrayError: A picture cannot be read.
        """
        source = torch.Generator().manual_seed(seed)
        labels = torch.randint(len(self.files), (size,), generator=source)
        pictures = []
        for label in labels.tolist():
            files = self.files[label]
            picture = self._read(files[int(torch.randint(len(files), (), generator=source))])
            # An augmentation may change the size.
            pictures.append(picture if augmentation is None else self.geometry(augmentation(picture)))
        return torch.stack([picture.as_subclass(Tensor) for picture in pictures]), labels

    def _read(self, path: Path) -> Tensor:
        if path in self._cache:
            return self._cache[path]
        picture = self.geometry(read_image(path))
        size = picture.numel() * picture.element_size()
        if self._cached_bytes + size <= CACHE_BYTES:
            self._cache[path] = picture
            self._cached_bytes += size
        return picture
