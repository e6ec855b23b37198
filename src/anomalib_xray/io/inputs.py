"""Radiograph files below folders, and the inputs of a command with a place for the overlay of each."""

from __future__ import annotations

import codecs
import logging
import os
import sys
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from anomalib_xray.errors import XrayError
from anomalib_xray.io.formats import is_radiograph_file
from anomalib_xray.io.paths import absolute, fitted, free_path

logger = logging.getLogger(__name__)

MASKS = "ground_truth"
"""Name of folders of masks, not of radiographs, in MVTec AD, anomalib and the phantoms."""

_DEBRIS = frozenset({"__MACOSX", "@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN"})
"""Folders in which systems and storage devices keep thumbnails and deleted files."""

_TELLING_BYTES = 6
"""Bytes of a list by which UTF-16 is told from names of one letter that zeros part."""

_OVERLAY = "_overlay.png"


@dataclass(frozen=True)
class Input:
    """A radiograph to predict.

    Attributes:
        path: The file, as the user's argument leads to it.
        name: Its path below the folder that all inputs share.
        overlay: File to write its overlay to.
    """

    path: Path
    name: Path
    overlay: Path

    def picture(self, kind: str) -> Path:
        """File for a picture of another kind beside the overlay, for example ``explained``."""
        return self.overlay.with_name(fitted(self.overlay.name.removesuffix(_OVERLAY), f"_{kind}.png"))


def find_inputs(given: Sequence[Path], out: Path) -> list[Input]:
    """List files, and the PNG, JPEG and DICOM files in folders, each once.

    Below ``out`` the folders are those of the inputs, seen from the deepest folder that holds everything given, so that
    two images of one name keep two overlays. Files in ``out`` are left out.

    Args:
        given: Files and folders; a file is taken whatever its ending, and even if it does not exist.
        out: Folder for the overlays.

    Returns:
        The inputs, in the order given, those of a folder sorted.

    Raises:
        XrayError: Nothing is given, no folder holds an image, one cannot be listed, or ``out`` lies among the images.
    """
    if not given:
        raise XrayError("No images are given: name files or folders.")
    root = _shared_folder(given)
    inputs: dict[Path, Input] = {}
    taken: set[str] = set()
    for argument in given:
        for path in images_of(argument, out, alone=len(given) == 1):
            found = absolute(path)
            if found not in inputs:
                inputs[found] = Input(
                    path, found.relative_to(root), free_path(out / found.relative_to(root), _OVERLAY, taken)
                )
    if not inputs:
        raise XrayError("None of the folders given holds a PNG, JPEG or DICOM file: give folders of radiographs.")
    overwritten = {absolute(image.overlay) for image in inputs.values()} & inputs.keys()
    if overwritten:
        raise XrayError(f"The overlays would replace the image {min(overwritten)}: choose another folder than {out}.")
    return list(inputs.values())


def with_list(given: Iterable[Path]) -> Iterator[Path]:
    """Put the files that standard input names in the place of ``-``, each as soon as it is named.

    Names stand on a line each, or are parted by NUL characters. A list in UTF-16, as PowerShell pipes it, is read when
    it has ended.
    """
    for path in given:
        if path != Path("-"):
            yield path
            continue
        first = sys.stdin.buffer.readline()
        if encoding := _wide_encoding(first):
            try:
                text = (first + sys.stdin.buffer.read()).decode(encoding)
            except UnicodeDecodeError as error:
                raise XrayError(
                    "The list of files on standard input is no whole UTF-16 text; pipe it in UTF-8."
                ) from error
            yield from (Path(line) for line in text.splitlines() if line)
            continue
        for line in chain([first.removeprefix(codecs.BOM_UTF8)], sys.stdin.buffer):
            yield from (Path(os.fsdecode(name)) for name in line.rstrip(b"\r\n").split(b"\0") if name)


def _wide_encoding(line: bytes) -> str:
    """The kind of UTF-16 of a list, by its first line; empty for another encoding.

    Its zeros would otherwise part letters, and a lone ``/`` would be a folder to search.
    """
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    begun = line[:_TELLING_BYTES]
    for encoding, zeros, letters in (("utf-16-le", begun[1::2], begun[::2]), ("utf-16-be", begun[::2], begun[1::2])):
        if len(begun) >= _TELLING_BYTES and not any(zeros) and all(letters):
            return encoding
    return ""


def images_of(argument: Path, out: Path | None = None, *, alone: bool = True) -> list[Path]:
    """List a file itself, or the images in a folder and below it, sorted; ``out`` is left out.

    Raises:
        XrayError: The folder cannot be listed, is ``out``, or holds no image, which unless ``alone`` is only logged.
    """
    if not os.path.isdir(argument):  # noqa: PTH112  # Path.is_dir() raises where the name is too long
        return [argument]
    if out is not None and absolute(argument) == absolute(out):
        raise XrayError(f"The overlays would lie among the images in {argument}: choose another folder than {out}.")
    files = list_radiographs(argument, leave_out=[] if out is None else [out])
    if not files:
        said = f"{argument} holds no PNG, JPEG or DICOM file: give a folder of radiographs."
        if alone:
            raise XrayError(said)
        logger.warning("%s", said)
    return files


def _shared_folder(given: Sequence[Path]) -> Path:
    folders = [absolute(path) if os.path.isdir(path) else absolute(path).parent for path in given]  # noqa: PTH112
    try:
        return Path(os.path.commonpath(folders))
    except ValueError as error:
        raise XrayError("The images lie on different drives: give those of one drive at a time.") from error


def list_radiographs(folder: Path, *, leave_out: Iterable[Path] = ()) -> list[Path]:
    """List the radiograph files in a folder and below it, sorted.

    Linked files and folders are followed; a folder that several links lead to is searched once, in its own place if
    that is below ``folder``, and a link to a folder around itself is not followed. Hidden files and folders,
    ``__MACOSX``, thumbnails, wastebaskets and folders called ``ground_truth``, and all that is not a radiograph by
    :func:`~anomalib_xray.io.formats.is_radiograph_file`, are passed over, which a warning counts.

    Args:
        folder: The folder.
        leave_out: Folders below it that are not searched, such as the one that a command writes to.

    Raises:
        XrayError: The folder cannot be listed.
    """
    search = _Search(folder, leave_out)
    files = sorted(search.files())
    if search.passed_over:
        said = "; ".join(
            f"{kind}: {len(paths)} ({'first ' * (len(paths) > 1)}{min(paths).relative_to(folder)})"
            for kind, paths in search.passed_over.items()
        )
        logger.warning("%s: passed over %s.", folder, said)
    return files


class _Search:
    """One walk through a folder."""

    def __init__(self, folder: Path, leave_out: Iterable[Path]) -> None:
        self.folder = folder
        self.passed_over: defaultdict[str, list[Path]] = defaultdict(list)
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
            if identity in self._searched or (linked and current.parent.resolve().is_relative_to(current.resolve())):
                self.passed_over["linked folders that lead back or are listed already"].append(current)
                continue
            if identity is not None:
                self._searched.add(identity)
            for entry in self._entries(current):
                path = current / entry.name
                if _is_folder(entry):
                    if entry.name.startswith(".") or entry.name in _DEBRIS or entry.name == MASKS:
                        self.passed_over["folders that hold no radiographs by their names"].append(path)
                    elif entry.is_symlink():
                        self._linked.append(path)
                    else:
                        folders.append(path)
                elif is_radiograph_file(path, regular=entry.is_file(follow_symlinks=False)):
                    yield path
                else:
                    self.passed_over[_kind(entry)].append(path)

    def _entries(self, folder: Path) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if folder == self.folder:
                raise XrayError(f"{folder} cannot be listed: {error.strerror}.") from error
            self.passed_over[f"folders that cannot be listed ({error.strerror})"].append(folder)
            return []


def _kind(entry: os.DirEntry[str]) -> str:
    """The kind of an entry that is not a radiograph."""
    if entry.name.startswith("."):
        return "hidden files"
    if os.path.isfile(entry.path):  # noqa: PTH113  # Path.is_file() raises where a link leads to itself
        return "files that are no PNG, JPEG or DICOM file"
    return "pipes and devices" if os.path.exists(entry.path) else "links that lead nowhere"  # noqa: PTH110  # as above


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path))  # noqa: PTH112


def _identity(folder: Path) -> tuple[int, int] | None:
    """The identity of a folder, whichever path leads to it; None if it is missing."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
