"""Find the radiographs that a command was given, and a place of its own for the overlay of each."""

from __future__ import annotations

import codecs
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from anomalib_xray.errors import XrayError
from anomalib_xray.io.listing import list_radiographs
from anomalib_xray.io.paths import absolute, fitted, free_path

logger = logging.getLogger(__name__)

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
    """Lists files, and the PNG, JPEG and DICOM files in folders, each once.

    Below ``out`` the folders are those of the inputs, seen from the deepest folder that holds everything given, so
    that two images of one name keep two overlays. What is already in ``out`` is no input.

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
    """Puts the files that standard input names in the place of ``-``, each as soon as it is named.

    Names stand on a line each, or are parted by NUL characters. A list in UTF-16, as PowerShell pipes it, is read when
    it has ended.

    Raises:
        XrayError: The list is in UTF-16 and broken off.
    """
    for path in given:
        if path != Path("-"):
            yield path
            continue
        first = sys.stdin.buffer.readline()
        if encoding := _wide_encoding(first):
            yield from map(Path, _wide_lines(first + sys.stdin.buffer.read(), encoding))
            continue
        for line in chain([first.removeprefix(codecs.BOM_UTF8)], sys.stdin.buffer):
            yield from (Path(os.fsdecode(name)) for name in line.rstrip(b"\r\n").split(b"\0") if name)


def _wide_encoding(line: bytes) -> str:
    """UTF-16 of which kind a list is in, by its first line; empty for another encoding.

    Its zeros would otherwise part letters, and a lone ``/`` would be a folder to search.
    """
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    begun = line[:_TELLING_BYTES]
    for encoding, zeros, letters in (("utf-16-le", begun[1::2], begun[::2]), ("utf-16-be", begun[::2], begun[1::2])):
        if len(begun) >= _TELLING_BYTES and not any(zeros) and all(letters):
            return encoding
    return ""


def _wide_lines(content: bytes, encoding: str) -> list[str]:
    try:
        return [line for line in content.decode(encoding).splitlines() if line]
    except UnicodeDecodeError as error:
        raise XrayError("The list of files on standard input is no whole UTF-16 text; pipe it in UTF-8.") from error


def images_of(argument: Path, out: Path | None = None, *, alone: bool = True) -> list[Path]:
    """Lists a file itself, or the images in a folder and below it, sorted; ``out`` is left out.

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
