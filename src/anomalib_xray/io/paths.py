"""Users' paths: read, compared, shortened, and found as tables name them."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
from itertools import chain, count
from pathlib import Path

from anomalib_xray.errors import XrayError
from anomalib_xray.io.formats import MAX_BYTES, stem_of

NAME_BYTES = 255
"""The longest name of a file that common file systems take."""

_ESCAPED = re.compile(r"\\u(dc[89a-f][0-9a-f])")


def absolute(path: str | Path) -> Path:
    """The path from the root of the file system, without ``..``, with symbolic links left as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # Path.resolve() follows links, Path.absolute() keeps ".."


def leads_out(path: Path, folder: Path) -> bool:
    """Whether a path leads out of a folder, be it over a symbolic link."""
    return not path.resolve().is_relative_to(folder.resolve())


def dead_link(path: str | Path) -> Path | None:
    """The target of a symbolic link that leads to nothing; None for anything else, and for a secret link."""
    # Path's own tests raise on a name that is too long, and on a link to itself.
    if not os.path.islink(path) or os.path.exists(path):  # noqa: PTH110, PTH114
        return None
    try:
        return Path(path).readlink()
    except OSError:
        return None


def read_bytes(path: str | Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Read a file that is not too large.

    Raises:
        XrayError: The file is missing, too large, a pipe or a device, or cannot be read.
    """
    path = Path(path)
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):  # may send nothing, or without end
            raise XrayError(f"{path} is a pipe or a device and is not read; give a file.")
        if about.st_size > max_bytes:
            raise XrayError(f"{path} has {about.st_size} bytes; at most {max_bytes} are read.")
        return path.read_bytes()
    except OSError as error:
        if (target := dead_link(path)) is not None:
            raise XrayError(
                f"{path} is a link to {target}, which is not there: fetch that file or repair the link."
            ) from error
        raise XrayError(f"{path} cannot be read: {error.strerror}.") from error


def unescaped(text: str) -> str:
    r"""A file's name, or another text with one, whose bytes other than UTF-8 were written as escapes (``\udcf6``)."""
    return _ESCAPED.sub(lambda escape: chr(int(escape[1], 16)), text)


def is_below(path: Path, folder: Path) -> bool:
    """Whether a path leads to something in a folder as it is written, that is unless ``..`` or a root leads it out.

    Links that somebody placed in the folder are followed, so that data sets made of links can be listed.

    >>> is_below(Path("set/../set/a.png"), Path("set")), is_below(Path("set/../a.png"), Path("set"))
    (True, False)
    """
    return absolute(path).is_relative_to(absolute(folder))


def fitted(stem: str, ending: str) -> str:
    """A file's name of ``stem`` and ``ending`` that file systems take.

    If both have more than :data:`NAME_BYTES` bytes, the stem is shortened and a digest tells it from others.

    >>> fitted("hand", ".png"), len(fitted(300 * "a", ".png"))
    ('hand.png', 255)
    """
    room = NAME_BYTES - len(os.fsencode(ending))
    if len(os.fsencode(stem)) <= room:
        return f"{stem}{ending}"
    digest = f"~{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}"
    # Half of a letter at the cut would make the name one that is not UTF-8.
    kept = stem
    while len(os.fsencode(kept)) > room - len(digest):
        kept = kept[:-1]
    return f"{kept}{digest}{ending}"


def free_path(image: Path, ending: str, taken: set[str]) -> Path:
    """A path for an output of an image, which tells the image and is not ``taken``, upper and lower case the same.

    The image's path is in the folder that is written; the new path, in folded case, is added to ``taken``.

    >>> taken = set()
    >>> [free_path(Path(name), "_overlay.png", taken).name for name in ("a.png", "a.jpg")]
    ['a_overlay.png', 'a.jpg_overlay.png']
    """
    further = (f"{image.name}-{number}" for number in count(2))
    for stem in chain((stem_of(image.name), image.name), further):
        path = image.with_name(fitted(stem, ending))
        if str(path).casefold() not in taken:
            break
    taken.add(str(path).casefold())
    return path


class Finder:
    """The files below ``root`` that a table lists, even if it writes their names in another way than the disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[Path, dict[str, str]] = {}
        self._loosely: dict[Path, dict[str, str]] = {}

    def find(self, cell: str) -> Path:
        """The file that a cell of a table names, by its absolute path without ``..``.

        If there is no such file, one whose name differs only in the Unicode form of its letters, in blanks around it,
        in the separator of folders or in its encoding; or else the path as it was given.
        """
        given = absolute(self.root / cell)
        if os.path.lexists(given):
            return given
        # A backslash is a letter of names here, but tables from Windows mean a folder.
        found, missing = _existing(absolute(self.root / cell.replace("\\", "/")))
        for name in missing:
            alike = name if os.path.lexists(found / name) else self._names_in(found).get(_plain(name))
            if alike is None:
                return given
            found /= alike
        return found

    def lookalike(self, path: Path) -> Path | None:
        """A file whose path differs from a missing one only in case or in its ending; None without one."""
        found, missing = _existing(path)
        for name in missing:
            alike = self._loosely_in(found)
            other = alike.get(_plain(name).lower()) or alike.get(_stem(_plain(name).lower()))
            if other is None:
                return None
            found /= other
        return found if missing and os.path.isfile(found) else None  # noqa: PTH113  # Path.is_file() may raise

    def _loosely_in(self, folder: Path) -> dict[str, str]:
        """Names in a folder in lower case, and without their endings."""
        if folder not in self._loosely:
            names = self._names_in(folder)
            stems = {_stem(plain.lower()): name for plain, name in names.items()}
            self._loosely[folder] = stems | {plain.lower(): name for plain, name in names.items()}
        return self._loosely[folder]

    def _names_in(self, folder: Path) -> dict[str, str]:
        """Names in a folder by their common form."""
        if folder not in self._names:
            try:
                self._names[folder] = {_plain(name): name for name in sorted(os.listdir(folder))}  # noqa: PTH208
            except OSError:
                self._names[folder] = {}
        return self._names[folder]


def _existing(path: Path) -> tuple[Path, list[str]]:
    """The longest beginning of a path that is there, and the names behind it, in their order."""
    names: list[str] = []
    while not os.path.lexists(path) and path != path.parent:
        names.insert(0, path.name)
        path = path.parent
    return path, names


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]  # noqa: PTH122  # a name, no path


def _plain(name: str) -> str:
    """A name in one Unicode form, without blanks around it; bytes other than UTF-8 are taken for Windows-1252."""
    try:
        os.fsencode(name).decode()
    except UnicodeDecodeError:
        name = os.fsencode(name).decode("cp1252", errors="replace")
    return unicodedata.normalize("NFC", name).strip()


def check_checkpoint(checkpoint: Path) -> None:
    """Refuse a checkpoint that is missing, before anything heavy is imported."""
    if not checkpoint.is_file():
        raise XrayError(f"{checkpoint} is no file: name a checkpoint that training wrote, such as model.ckpt.")
