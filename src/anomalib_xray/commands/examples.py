"""The command that copies the configurations and the template of a plugin to where they can be used and changed."""

from __future__ import annotations

from pathlib import Path

EXAMPLES = ("configs", "templates")
"""Folders of the repository that are part of an installed package too."""


def examples(out: Path = Path()) -> None:
    """Copies the example configurations and the template of a plugin into a folder.

    Documented commands that name configs/... then run in that folder as they are printed; who works in a clone of the
    repository has these files already.

    Args:
        out: Folder that gets the folders configs and templates, neither of which may be there yet.

    Raises:
        XrayError: A folder exists already, or cannot be written.
    """
    from shutil import copytree, ignore_patterns

    from anomalib_xray.errors import XrayError
    from anomalib_xray.io.write import check_free, completed

    package = Path(__file__).parents[1]
    # In a wheel they lie inside of the package; an editable installation has them at the root of its repository.
    source = next((root for root in (package / "examples", package.parents[1]) if (root / EXAMPLES[0]).is_dir()), None)
    if source is None:
        raise XrayError("This installation lacks the examples: install anomalib-xray again from its wheel.")
    for name in EXAMPLES:
        check_free(out / name)
    out.mkdir(parents=True, exist_ok=True)
    for name in EXAMPLES:
        with completed(out / name) as folder:
            copytree(source / name, folder, dirs_exist_ok=True, ignore=ignore_patterns("__pycache__", ".*"))
        print(out / name)
