"""Folders that appear when they are complete, and folders that never do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from uuid import uuid4

from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import fitted
from anomalib_xray.io.write import lock, noticing_full_disk


def check_free(out: Path) -> None:
    """Checks that a folder can be written without touching what somebody else left.

    Args:
        out: The folder.

    Raises:
        XrayError: It holds something, or is a file.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise XrayError(f"{out} exists already: remove it, or name another folder with --out.")


@contextmanager
def completed(out: Path) -> Iterator[Path]:
    """A folder that takes its name when everything in it is written; an interruption leaves nothing.

    Args:
        out: The folder; must not exist or be empty.

    Yields:
        The folder to write to.

    Raises:
        XrayError: ``out`` holds something or cannot be written.
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
    """A folder on the same disk as another one, which is removed in the end, or by the next run if this one is killed.

    Args:
        beside: The other one.

    Yields:
        The folder.

    Raises:
        XrayError: It cannot be made.
    """
    name = f".{beside.name}"
    folder = beside.absolute().with_name(fitted(name, f".{uuid4().hex}.tmp"))
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise XrayError(f"{beside} cannot be written: {error.strerror}.") from error
    with _locked(folder):
        for other in folder.parent.glob(f"{escape(name)}.*.tmp"):
            with _locked(other) as is_left:
                if is_left:
                    shutil.rmtree(other, ignore_errors=True)
        try:
            with noticing_full_disk(folder.parent):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Locks a folder, if no other process has done so, and says whether it did; without locks it did not."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # gone meanwhile, or on Windows
        yield False
        return
    try:
        yield bool(lock(descriptor))
    finally:
        os.close(descriptor)
