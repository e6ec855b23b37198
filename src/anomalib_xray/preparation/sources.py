"""The raw radiographs below a folder, with their patients, studies and masks."""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from anomalib_xray.errors import XrayError
from anomalib_xray.io.formats import stem_of
from anomalib_xray.io.inputs import MASKS, list_radiographs
from anomalib_xray.io.paths import Finder, absolute, fitted, is_below
from anomalib_xray.io.tables import NOTHING, Row, check_columns, identity, patient_ids, read_table
from anomalib_xray.preparation.record import HOUSEKEEPING, MANIFEST

logger = logging.getLogger(__name__)

_PATIENT_AND_STUDY = re.compile(r"(?:^|/)(?P<patient>patient\d+)/(?P<study>study\d+[^/]*)/[^/]+$")  # MURA's layout


@dataclass(frozen=True)
class Source:
    """A raw radiograph.

    Attributes:
        name: Its path below the root, with forward slashes.
        patient: Its patient; empty if unknown.
        study: Its study of the patient; empty if unknown.
        mask: Path of its anomaly mask below the root, with forward slashes; empty without one.
        mask_as: Path that its prepared mask is named after; empty if that is the mask's own.
        problem: Reason why it cannot be prepared; empty without one.
    """

    name: str
    patient: str = ""
    study: str = ""
    mask: str = ""
    problem: str = ""
    mask_as: str = ""


def find_sources(
    root: Path, out: Path, *, table: Path | None = None, masks: Path | None = None, only: str | None = None
) -> list[Source]:
    """List the radiographs to prepare.

    Args:
        root: Folder of the raw radiographs, searched as :func:`anomalib_xray.io.inputs.list_radiographs` says.
        out: Folder of the prepared ones; its files are left out.
        table: CSV file with a header that lists the radiographs instead: the column ``image_path`` below ``root``, and
            ``patient``, ``study`` and ``mask_path`` if it has them. Links below ``root`` are followed, but no path
            leads out by ``..``.
        masks: Folder below ``root`` that holds anomaly masks under the relative paths of their radiographs, or those
            with the ending ``.png``.
        only: Pattern of the paths below ``root`` to prepare, such as ``train/XR_HAND/*``; ``*`` stands for slashes too.

    Returns:
        The sources, sorted by name. Patient and study come from the table or from MURA's folder names. A row that
        lists no radiograph, or contradicts another, is a source with a problem.

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
        raise XrayError(f"{root} holds no PNG, JPEG or DICOM file; give another folder as --root.")
    return _with_outputs_of_their_own(sources, root)


def prepared_name(name: str, part: int, parts: int) -> str:
    """Path of a prepared picture below its folder: the original's with the ending ``.png``, shortened if too long.

    With several ``parts``, the ending is ``_part1.png`` and so on.

    >>> prepared_name("a/b.dcm", 1, 1), prepared_name("a/b.dcm", 2, 2)
    ('a/b.png', 'a/b_part2.png')
    """
    path = PurePosixPath(name)
    return str(path.with_name(fitted(stem_of(path.name), f"{f'_part{part}' if parts > 1 else ''}.png")))


def _check_apart(root: Path, out: Path) -> None:
    """Refuse an output folder in which raw radiographs could be overwritten."""
    if root.resolve() == out.resolve() or root.resolve().is_relative_to(out.resolve()):
        raise XrayError(f"The raw radiographs lie in {out}, where nothing may be overwritten: give another --out.")


def _scanned(root: Path, out: Path, mask_folder: Path | None) -> Iterator[Source]:
    left_out = [path for path in (out, mask_folder) if path is not None]
    masks = None if mask_folder is None else Finder(mask_folder)
    found = 0
    for path in list_radiographs(root, leave_out=left_out):
        name = path.relative_to(root).as_posix()
        mask = "" if masks is None else _mask_of(name, root, masks)
        found += bool(mask)
        yield Source(name, *patient_and_study(name), mask)
    if masks is not None and not found:
        logger.warning("%s holds no mask under the path of any radiograph.", mask_folder)


def _mask_of(name: str, root: Path, masks: Finder) -> str:
    """The mask of an original, under its path or, as masks of DICOM files are, under the same with ``.png``."""
    for candidate in (name, prepared_name(name, 1, 1)):
        mask = masks.find(candidate)
        if os.path.isfile(mask):  # noqa: PTH113  # Path.is_file() raises where the name is too long
            return mask.relative_to(absolute(root)).as_posix()
    return ""


def _listed(root: Path, table: Path) -> list[Source]:
    rows = read_table(table)
    check_columns(rows, table, ["image_path"], "give a CSV file with such a column as --table")
    finder = Finder(absolute(root))
    sources: dict[str, Source] = {}
    lines: dict[str, int] = {}
    patients = patient_ids(rows, "patient", table) if "patient" in rows[0].cells else [""] * len(rows)
    for row, known in zip(rows, patients, strict=True):
        source = _source_of(row, known, finder, table)
        earlier = sources.setdefault(source.name, source)
        first = lines.setdefault(source.name, row.line)
        if earlier is source:
            continue
        if replace(earlier, problem="") == replace(source, problem=""):
            logger.warning("line %d of %s repeats line %d and is passed over.", row.line, table, first)
        else:
            problem = f"lines {first} and {row.line} of {table} contradict each other about it; remove one of them"
            sources[source.name] = replace(earlier, problem=problem)
    return list(sources.values())


def _source_of(row: Row, known: str, finder: Finder, table: Path) -> Source:
    """The radiograph that a row lists, or a source with a problem for a row that lists none."""
    paths = [row.cells["image_path"], row.cells.get("mask_path", "")]
    if not paths[0]:
        return Source(f"line {row.line} of {table.name}", problem="its image_path is empty; fill it in")
    if paths[1].lower() in NOTHING:
        paths[1] = ""
    found = [finder.find(path) if path else None for path in paths]
    for path, file in zip(paths, found, strict=True):
        if file is not None and (file == finder.root or not is_below(file, finder.root)):
            problem = f"{path} is no file that lies below {finder.root}; move the file, or give another --root"
            return Source(f"line {row.line} of {table.name}", problem=problem)
    name, mask = (file.relative_to(finder.root).as_posix() if file is not None else "" for file in found)
    patient, study = patient_and_study(name)
    study = identity(row.cells.get("study", "")) or study
    return Source(name, known or patient, study, mask, _missing(found, finder))


def _missing(files: list[Path | None], finder: Finder) -> str:
    """The problem that a file is missing while another one may be meant; empty without one."""
    for file in files:
        if file is not None and not os.path.lexists(file) and (other := finder.lookalike(file)) is not None:
            return f"{file} is not there, but {other} is; correct the table, or rename the file"
    return ""


def _below(root: Path, path: Path) -> Path:
    """A path below the root, which must not lead out of it."""
    found = Path(os.path.normpath(root / path))
    if not is_below(found, root):
        raise XrayError(f"{path} does not lie below {root}; move the folder, or give another --root.")
    return found


def patient_and_study(name: str) -> tuple[str, str]:
    """Patient and study in a path of MURA's layout, empty in others.

    >>> patient_and_study("train/XR_HAND/patient00007/study1_positive/image1.png")
    ('patient00007', 'study1_positive')
    """
    found = _PATIENT_AND_STUDY.search(name)
    return (found["patient"], found["study"]) if found else ("", "")


def _with_outputs_of_their_own(sources: list[Source], root: Path) -> list[Source]:
    """Sources whose prepared files overwrite nothing; one whose picture would has a problem."""
    there = [source for source in sources if not source.problem and os.path.lexists(root / source.name)]
    pictures = Counter(_output(source.name) for source in there)
    # A mask of several radiographs is prepared in another way for each.
    masks = Counter(_output(source.mask) for source in there if source.mask)

    def is_taken(name: str) -> bool:
        return pictures[_output(name)] > 0 or masks[_output(name)] > 1 or _is_reserved(name)

    checked = {source.name for source in there}
    return [
        _with_outputs_of_its_own(source, pictures, is_taken) if source.name in checked else source for source in sources
    ]


def _with_outputs_of_its_own(source: Source, pictures: Counter[str], is_taken: Callable[[str], bool]) -> Source:
    problem, mask_as = "", ""
    if pictures[_output(source.name)] > 1:
        problem = (
            "its prepared picture would have the same name as that of another file in its folder; rename one of them"
        )
    elif _is_reserved(source.name):
        problem = f"prepare keeps {PurePosixPath(source.name).parts[0]} for a file of its own; rename the folder"
    elif source.mask == source.name:
        problem = "its mask_path is the radiograph itself; name its mask, or leave the cell empty"
    elif source.mask and is_taken(source.mask):
        mask_as = f"{MASKS}/{source.name}"
        if is_taken(mask_as):
            problem = f"its prepared mask would have the same name as that of {mask_as}; rename one of them"
    return replace(source, problem=problem, mask_as=mask_as)


def _output(name: str) -> str:
    """A prepared file's name, compared as on file systems that do not tell upper from lower case."""
    return prepared_name(name, 1, 1).lower()


def _is_reserved(name: str) -> bool:
    """Whether a path leads through a folder that has the name of a file or folder that prepare itself writes."""
    return PurePosixPath(name).parts[0].lower() in (MANIFEST, HOUSEKEEPING)
