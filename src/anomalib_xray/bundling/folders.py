"""Folders that appear when they are complete, and folders that never do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from anomalib_xray.errors import XrayError


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
    """A folder on the same disk as another one, which is removed in the end.

    Args:
        beside: The other one.

    Yields:
        The folder.

    Raises:
        XrayError: It cannot be made.
    """
    folder = beside.absolute().with_name(f".{beside.name}.{uuid4().hex}.tmp")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise XrayError(f"{beside} cannot be written: {error.strerror}.") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
