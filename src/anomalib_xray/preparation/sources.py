"""The raw radiographs below a folder, and what is known about each."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import NoReturn

from anomalib_xray.errors import XrayError
from anomalib_xray.io.formats import SUFFIXES, is_radiograph_file

_PATIENT_AND_STUDY = re.compile(r"(?:^|/)(?P<patient>patient\d+)/(?P<study>study\d+[^/]*)/[^/]+$")  # MURA's layout
_TRUTH = "ground_truth"  # what MVTec AD, anomalib and the phantoms call the folder of masks, which are no radiographs


@dataclass(frozen=True)
class Source:
    """A raw radiograph.

    Attributes:
        name: Its path below the root, with forward slashes.
        patient: Whose it is; empty where unknown.
        study: Which study of the patient it belongs to; empty where unknown.
        mask: Path of its anomaly mask below the root, with forward slashes; empty without one.
        problem: Why it cannot be prepared; empty where nothing speaks against it.
    """

    name: str
    patient: str = ""
    study: str = ""
    mask: str = ""
    problem: str = ""


def find_sources(
    root: Path, out: Path, *, table: Path | None = None, masks: Path | None = None, only: str | None = None
) -> list[Source]:
    """Lists the radiographs to prepare.

    Args:
        root: Folder of the raw radiographs, which is searched with all folders below it but those named
            ``ground_truth``.
        out: Folder of the prepared ones; what lies in it is no source.
        table: CSV file with a header that lists the radiographs instead: the column ``image_path`` below ``root``, and
            ``patient``, ``study`` and ``mask_path`` where it has them.
        masks: Folder below ``root`` that holds anomaly masks under the relative paths of their radiographs.
        only: Pattern of the paths below ``root`` to prepare, such as ``train/XR_HAND/*``; ``*`` stands for slashes too.

    Returns:
        The sources, sorted by name. Patient and study come from the table or from MURA's folder names.

    Raises:
        XrayError: A folder or the table is missing or unusable, or no radiograph is found.
    """
    if not root.is_dir():
        raise XrayError(f"There is no folder {root}: give the folder of the raw radiographs as --root.")
    _check_apart(root, out)
    mask_folder = None if masks is None else _below(root, masks)
    if mask_folder is not None and not mask_folder.is_dir():
        raise XrayError(f"There is no folder {mask_folder}: give --masks as a path below {root}.")
    found = _listed(root, table) if table is not None else _scanned(root, out, mask_folder)
    sources = sorted(
        (source for source in found if only is None or fnmatchcase(source.name, only)), key=lambda source: source.name
    )
    if not sources and only is not None:
        raise XrayError(f"{root} holds no radiograph whose path below it is like {only!r}; change --only.")
    if not sources:
        raise XrayError(f"{root} holds no radiograph ({', '.join(sorted(SUFFIXES))}); give another folder as --root.")
    return _without_shared_outputs(sources)


def prepared_name(name: str, part: int, parts: int) -> str:
    """Path of a prepared picture below its folder.

    Args:
        name: Path of the original below its root, with forward slashes.
        part: Number of the part, from 1.
        parts: How many parts the original has.

    Returns:
        The original's path with the ending ``.png``, and ``_part1`` and so on before it where there are several.
    """
    path = PurePosixPath(name)
    # The last number of a DICOM file that is named by its UID is no ending.
    stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
    return str(path.with_name(f"{stem}{f'_part{part}' if parts > 1 else ''}.png"))


def _check_apart(root: Path, out: Path) -> None:
    """Refuses an output folder in which raw radiographs could be overwritten."""
    if root.resolve() == out.resolve() or root.resolve().is_relative_to(out.resolve()):
        raise XrayError(f"The raw radiographs lie in {out}, where nothing may be overwritten: give another --out.")


def _scanned(root: Path, out: Path, mask_folder: Path | None) -> Iterator[Source]:
    left_out = {path.resolve() for path in (out, mask_folder) if path is not None}
    for folder, subfolders, files in os.walk(root, onerror=_refuse):
        subfolders[:] = [name for name in subfolders if name != _TRUTH and Path(folder, name).resolve() not in left_out]
        for file in files:
            if is_radiograph_file(Path(folder, file)):
                name = Path(folder, file).relative_to(root).as_posix()
                yield Source(name, *_patient_and_study(name), _mask_of(name, root, mask_folder))


def _mask_of(name: str, root: Path, mask_folder: Path | None) -> str:
    if mask_folder is None or not (mask_folder / name).is_file():
        return ""
    return (mask_folder / name).relative_to(root).as_posix()


def _listed(root: Path, table: Path) -> Iterator[Source]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise XrayError(f"The table {table} cannot be read: {error}; give a CSV file as --table.") from error
    if not rows or "image_path" not in rows[0]:
        raise XrayError(f"The table {table} has no column image_path or no row; give a CSV file with a header.")
    twice = [path for path, count in Counter(row["image_path"] for row in rows).items() if count > 1]
    if twice:
        raise XrayError(f"The table {table} lists {twice[0]} twice; remove one of the rows.")
    for row in rows:
        name = _below(root, Path(row["image_path"])).relative_to(root).as_posix()
        mask = (row.get("mask_path") or "").strip()
        patient, study = _patient_and_study(name)
        yield Source(
            name,
            row.get("patient") or patient,
            row.get("study") or study,
            _below(root, Path(mask)).relative_to(root).as_posix() if mask else "",
        )


def _below(root: Path, path: Path) -> Path:
    """A listed path, which must not lead out of the root, not over a link either."""
    found = Path(os.path.normpath(root / path))
    if not found.is_relative_to(Path(os.path.normpath(root))) or not found.resolve().is_relative_to(root.resolve()):
        raise XrayError(f"{path} does not lie below {root}; move the file, or give another --root.")
    return found


def _patient_and_study(name: str) -> tuple[str, str]:
    found = _PATIENT_AND_STUDY.search(name)
    return (found["patient"], found["study"]) if found else ("", "")


def _without_shared_outputs(sources: list[Source]) -> list[Source]:
    """Marks sources whose prepared pictures would overwrite each other, such as ``a.png`` and ``a.jpg``."""
    shared = Counter(prepared_name(source.name, 1, 1).casefold() for source in sources)
    return [
        Source(
            source.name,
            source.patient,
            source.study,
            source.mask,
            "its prepared picture would have the same name as that of another file in its folder; rename one of them",
        )
        if shared[prepared_name(source.name, 1, 1).casefold()] > 1
        else source
        for source in sources
    ]


def _refuse(error: OSError) -> NoReturn:
    raise XrayError(f"{error.filename} cannot be listed: {error.strerror}.") from error
