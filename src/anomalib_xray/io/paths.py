"""Paths as users give them."""

from __future__ import annotations

import os
from pathlib import Path


def absolute(path: str | Path) -> Path:
    """The path from the root of the file system, without ``..``, with symbolic links left as they are."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # Path.resolve() follows links, Path.absolute() keeps ".."


def leads_out(path: Path, folder: Path) -> bool:
    """Whether a path leads out of a folder, be it over a symbolic link."""
    return not path.resolve().is_relative_to(folder.resolve())
