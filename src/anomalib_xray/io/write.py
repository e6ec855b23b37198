"""Atomic files and folders, and temporary folders."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from uuid import uuid4

from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import fitted

if TYPE_CHECKING:
    from anomalib_xray.io.radiograph import Radiograph

TEMPORARY = re.compile(r"\.(.+\.)?[0-9a-f]{32}\.tmp")
"""Names of files that are being written; where nothing is, they are halves that a killed process left."""

_READABLE = 0o666  # less the process's mask, as for any new file


_FULL = (errno.ENOSPC, errno.EDQUOT)
_LITTLE = 2**20
"""Free bytes at which a failure to write says by itself that the disk is full."""


def full_disk(folder: Path) -> XrayError:
    """The error that tells of a full disk."""
    return XrayError(
        f"The disk of {folder} is full (No space left on device): make room there, or name a folder on another disk."
    )


@contextmanager
def noticing_full_disk(folder: Path) -> Iterator[None]:
    """Raise the error of :func:`full_disk` for any error within that a full disk caused; others pass.

    Exporters only speak of elements and streams.
    """
    try:
        yield
    except Exception as error:
        if _tells_of_full_disk(error, folder):
            raise full_disk(folder) from error
        raise


def _tells_of_full_disk(error: BaseException, folder: Path) -> bool:
    chain, cause = [error], error.__cause__ or error.__context__
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(isinstance(link, OSError) and link.errno in _FULL for link in chain):
        return True
    if isinstance(error, XrayError) and len(chain) == 1:
        return False
    # Libraries that write by themselves raise errors without a number.
    present = next((parent for parent in (folder, *folder.absolute().parents) if parent.exists()), Path())
    return shutil.disk_usage(present).free < _LITTLE


def write_png(path: str | Path, image: Radiograph) -> None:
    """Write a radiograph, or a mask, as a grey PNG.

    Args:
        path: The file to write; missing folders are made, an existing file is replaced.
        image: (H, W), uint8 or uint16.

    Raises:
        XrayError: The picture has another shape or depth, or the file cannot be written.
    """
    import cv2

    if image.ndim != 2 or image.size == 0 or image.dtype not in ("uint8", "uint16"):
        raise XrayError(
            f"{path} cannot hold a picture of shape {image.shape} and type {image.dtype}; give (H, W) uint8 or uint16."
        )
    _, encoded = cv2.imencode(".png", image)
    write_atomically(path, encoded.tobytes())


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write a file under a temporary name in the same folder and then rename it.

    Args:
        path: The file to write; missing folders are made, an existing file is replaced.
        content: Text, stored as UTF-8, or bytes.

    Raises:
        XrayError: The file cannot be written; an existing one is then unchanged.
    """
    path = Path(path)
    data = _encoded(content)
    temporary = temporary_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(temporary) as file:
            try:
                file.truncate()
                file.write(data)
                file.flush()
                if os.name == "nt":  # where an open file cannot be renamed
                    file.close()
                temporary.replace(path)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink()
                raise
    except OSError as error:
        if error.errno in _FULL:
            raise full_disk(path.parent) from error
        raise XrayError(f"{path} cannot be written: {error.strerror}.") from error


def holds(path: Path, content: str | bytes) -> bool:
    """Whether a file has this content already, as :func:`write_atomically` stores it."""
    return path.is_file() and path.read_bytes() == _encoded(content)


def _encoded(content: str | bytes) -> bytes:
    # Bytes of file names that are no UTF-8 become escapes such as \udcf6, which unescaped() reads back.
    return content.encode(errors="backslashreplace") if isinstance(content, str) else content


def temporary_of(path: Path) -> Path:
    """The name under which a file is written: always the same, so that the rest of a killed process is used again.

    It is short, however long the file's own name is.
    """
    return path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}.tmp")


@contextmanager
def _alone(path: Path) -> Iterator[BinaryIO]:
    """Open a file that no other process or thread writes meanwhile; they wait, and a killed one holds nothing."""
    # Whoever may write to the folder could have put a link here, which must not lead the content elsewhere.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    while True:
        try:
            descriptor = os.open(path, flags, _READABLE)
        except PermissionError:
            path.unlink(missing_ok=True)  # what a killed process of another user left
            descriptor = os.open(path, flags, _READABLE)
        with os.fdopen(descriptor, "r+b") as file:
            lock(file.fileno(), wait=True)
            # The one who had the lock has renamed the file: what is open here is the finished one.
            if _is_still(path, file):
                yield file
                return


def lock(descriptor: int, *, wait: bool = False, shared: bool = False) -> bool | None:
    """Lock an open file or folder until it is closed; a process that is killed lets go of its locks.

    ``wait`` waits for another process that has locked it; a ``shared`` lock keeps out only those that are not. None on
    a system or a network drive that has no locks.
    """
    try:
        import fcntl
    except ImportError:  # on Windows
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextmanager
def held(path: Path, *, wait: bool = False, shared: bool = False) -> Iterator[bool]:
    """Lock the file ``path``, which is made if it is missing, and say whether it worked; arguments as of :func:`lock`.

    On a system without locks, two at once are the user's to avoid.
    """
    with path.open("a+") as file:  # drives of a network lock for others what may be read and written only
        yield lock(file.fileno(), wait=wait, shared=shared) is not False


@contextmanager
def alone(path: Path, refusal: str, *, shared: bool = False) -> Iterator[None]:
    """Lock a file as :func:`held` does, or raise ``refusal`` if another process has locked it."""
    with held(path, shared=shared) as is_ours:
        if not is_ours:
            raise XrayError(refusal)
        yield


def check_free(out: Path) -> None:
    """Refuse a folder that holds something, or is a file, so that nothing of somebody else is touched."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise XrayError(f"{out} exists already: remove it, or name another folder with --out.")


@contextmanager
def completed(out: Path) -> Iterator[Path]:
    """A folder that takes its name when everything in it is written; an interruption leaves nothing.

    ``out`` must not exist or be empty.
    """
    check_free(out)
    with scratch(out) as folder:
        yield folder
        try:
            folder.replace(out)
        except OSError as error:
            raise XrayError(f"{out} cannot be written: {error.strerror}.") from error


@contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """A folder on the disk of ``beside``, removed in the end, or by the next run if this one is killed."""
    name = f".{beside.name}"
    folder = beside.absolute().with_name(fitted(name, f".{uuid4().hex}.tmp"))
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise XrayError(f"{beside} cannot be written: {error.strerror}.") from error
    with locked(folder):
        for other in folder.parent.glob(f"{escape(name)}.*.tmp"):
            with locked(other) as is_left:
                if is_left:
                    shutil.rmtree(other, ignore_errors=True)
        try:
            with noticing_full_disk(folder.parent):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def locked(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Lock a folder, and say whether it worked; without locks it did not. Arguments as of :func:`lock`."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # gone meanwhile, or on Windows
        yield False
        return
    try:
        yield bool(lock(descriptor, wait=wait))
    finally:
        os.close(descriptor)


def _is_still(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
