"""The radiograph files below a folder: the one list for every command and data set."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from anomalib_xray.errors import XrayError
from anomalib_xray.io.formats import is_radiograph_file

logger = logging.getLogger(__name__)

MASKS = "ground_truth"
"""Name of folders of masks, which are no radiographs, in MVTec AD, anomalib and the phantoms."""

_DEBRIS = frozenset({"__MACOSX", "@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN"})
"""Folders in which systems and storage devices keep thumbnails and what was deleted."""


def list_radiographs(folder: Path, *, leave_out: Iterable[Path] = ()) -> list[Path]:
    """Lists the radiograph files in a folder and below it.

    Linked files and folders are followed; a folder that several links lead to is searched once, in its own place if
    that is below ``folder``, and a link to a folder around itself is not followed. Hidden files and folders,
    ``__MACOSX``, thumbnails, wastebaskets and folders called ``ground_truth`` are no place for radiographs; what else
    is none, by :func:`~anomalib_xray.io.formats.is_radiograph_file`, is passed over too. A warning says what was passed
    over and how much of it.

    Args:
        folder: The folder.
        leave_out: Folders below it that are not searched, such as the one that a command writes to.

    Returns:
        The files, as ``folder`` leads to them, sorted.

    Raises:
        XrayError: The folder cannot be listed.
    """
    search = _Search(folder, leave_out)
    files = sorted(search.files())
    if search.passed_over:
        said = "; ".join(_said(kind, paths, folder) for kind, paths in search.passed_over.items())
        logger.warning("%s: passed over %s.", folder, said)
    return files


class _Search:
    """One walk through a folder."""

    def __init__(self, folder: Path, leave_out: Iterable[Path]) -> None:
        self.folder = folder
        self.passed_over: dict[str, list[Path]] = {}
        self._left_out = {identity for path in leave_out if (identity := _identity(path)) is not None}
        self._searched: set[tuple[int, int]] = set()
        self._linked: deque[Path] = deque()

    def files(self) -> Iterator[Path]:
        """Radiograph files, those of real folders before those that only links lead to."""
        folders = [self.folder]
        while folders or self._linked:
            linked = not folders
            current = folders.pop() if folders else self._linked.popleft()
            identity = _identity(current)
            if identity in self._left_out:
                continue
            if identity in self._searched or (linked and _is_around_itself(current)):
                self._pass_over("linked folders that lead back or are listed already", current)
                continue
            if identity is not None:
                self._searched.add(identity)
            for entry in self._entries(current):
                path = current / entry.name
                if _is_folder(entry):
                    if entry.name.startswith(".") or entry.name in _DEBRIS or entry.name == MASKS:
                        self._pass_over("folders that hold no radiographs by their names", path)
                    elif entry.is_symlink():
                        self._linked.append(path)
                    else:
                        folders.append(path)
                elif is_radiograph_file(path, regular=entry.is_file(follow_symlinks=False)):
                    yield path
                else:
                    self._pass_over(_kind(entry), path)

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if folder == self.folder:
                raise XrayError(f"{folder} cannot be listed: {error.strerror}.") from error
            self._pass_over(f"folders that cannot be listed ({error.strerror})", folder)
            return []

    def _pass_over(self, kind: str, path: Path) -> None:
        self.passed_over.setdefault(kind, []).append(path)


def _kind(entry: os.DirEntry[str]) -> str:
    """What an entry is that is no radiograph."""
    if entry.name.startswith("."):
        return "hidden files"
    if os.path.isfile(entry.path):  # noqa: PTH113  # Path.is_file() raises where a link leads to itself
        return "files that are no PNG, JPEG or DICOM file"
    return "pipes and devices" if os.path.exists(entry.path) else "links that lead nowhere"  # noqa: PTH110  # as above


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))  # noqa: PTH112


def _identity(folder: Path) -> tuple[int, int] | None:
    """What tells a folder from others, whichever path leads to it; nothing where it is missing."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_around_itself(link: Path) -> bool:
    """Whether a linked folder is one of those that the link lies in."""
    return link.parent.resolve().is_relative_to(link.resolve())


def _said(kind: str, paths: list[Path], folder: Path) -> str:
    return f"{kind}: {len(paths)} ({'first ' * (len(paths) > 1)}{min(paths).relative_to(folder)})"
