"""MURA's folders and CSV files: which images there are, whose, and with which label."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from anomalib_xray.data.table import label_index
from anomalib_xray.errors import XrayError
from anomalib_xray.io.listing import list_radiographs
from anomalib_xray.io.tables import read_table

logger = logging.getLogger(__name__)

BODY_PARTS = ("XR_ELBOW", "XR_FINGER", "XR_FOREARM", "XR_HAND", "XR_HUMERUS", "XR_SHOULDER", "XR_WRIST")

_IMAGE = re.compile(
    r"(?P<relative>(?P<official>train|valid)/(?P<part>XR_[A-Z]+)/(?P<patient>patient\d+)"
    r"/(?P<study>study\d+_(?P<label>positive|negative))/(?P<file>[^/]+))"
)
_DEBRIS = "._"  # macOS leaves such files beside each file of some copies
_LEVELS = 3  # patient, study and image below the folder of a body part
_HEADER = "Img_Path"  # some copies added a header


def body_part_folders(body_parts: str | list[str]) -> list[str]:
    """Reads body parts as people write them.

    Args:
        body_parts: One or several of HAND, hand, XR_HAND and so on; or ``all``.

    Returns:
        MURA's folder names, sorted, each once.

    Raises:
        XrayError: MURA has no such body part.
    """
    given = [body_parts] if isinstance(body_parts, str) else body_parts
    if [part.lower() for part in given] == ["all"]:
        return list(BODY_PARTS)
    folders = {part: "XR_" + part.upper().removeprefix("XR_") for part in given}
    unknown = [part for part, folder in folders.items() if folder not in BODY_PARTS]
    if unknown or not folders:
        raise XrayError(
            f"MURA has no body part {', '.join(unknown) or 'in an empty list'};"
            f" choose of {', '.join(BODY_PARTS)}, or all."
        )
    return sorted(set(folders.values()))


def scan_folders(root: Path, official: str, part: str) -> pd.DataFrame:
    """Lists a body part's images from the folders of studies; the label is the ending of a study's folder.

    Args:
        root: MURA's root.
        official: MURA's own split, ``train`` or ``valid``.
        part: Folder name of a body part.

    Returns:
        Columns ``relative`` (path below root), ``patient``, ``study`` (unique over patients and parts),
        ``label_index``.

    Raises:
        XrayError: There are no images, or one is not in MURA's layout.
    """
    folder = root / official / part
    found = list_radiographs(folder) if folder.is_dir() else []
    files = [path for path in found if len(path.relative_to(folder).parts) == _LEVELS]
    if len(files) < len(found):
        logger.warning(
            "%s: passed over pictures that lie in no folder of a study: %d.", folder, len(found) - len(files)
        )
    return _image_table((path.relative_to(root).as_posix() for path in files), folder)


def read_index(root: Path, official: str, part: str) -> pd.DataFrame:
    """Lists a body part's images from MURA's CSV files, with or without a header.

    Args:
        root: MURA's root, where ``<official>_image_paths.csv`` and ``<official>_labeled_studies.csv`` are.
        official: MURA's own split, ``train`` or ``valid``.
        part: Folder name of a body part.

    Returns:
        Columns as of :func:`scan_folders`; the labels are those of the CSV file.

    Raises:
        XrayError: A file is missing or unreadable, there are no images of the part, or a study has no label.
    """
    paths = root / f"{official}_image_paths.csv"
    studies = root / f"{official}_labeled_studies.csv"
    selection = f"{official}/{part}/"
    listed = [row["path"].replace("\\", "/") for row in _read_csv(paths, ["path"])]
    files = [file for file in _below(selection, listed) if file is not None]
    images = _image_table(files, paths)

    labels = _read_csv(studies, ["study", "label"])
    named = _below(selection, [row["study"].replace("\\", "/") for row in labels])
    label_of = {
        study.strip("/"): label_index(row["label"], f"study {study.strip('/')} of {studies}")
        for study, row in zip(named, labels, strict=True)
        if study is not None
    }
    folders = images["relative"].map(lambda relative: relative.rpartition("/")[0])
    unlabelled = folders[~folders.isin(label_of.keys())]
    if len(unlabelled) > 0:
        raise XrayError(f"{studies} has no label for {unlabelled.iloc[0]}, which {paths.name} lists; add it.")
    return images.assign(label_index=folders.map(label_of).astype(int))


def _below(selection: str, paths: Iterable[str]) -> list[str | None]:
    """The paths from ``selection`` on, whatever the copy's root is called in them; None for those that lack it."""
    return [path[path.index(selection) :] if selection in path else None for path in paths]


def _read_csv(path: Path, columns: list[str]) -> list[dict[str, str]]:
    return [row.cells for row in read_table(path, columns) if row.cells[columns[0]] != _HEADER]


def _image_table(files: Iterable[str], source: Path) -> pd.DataFrame:
    rows = []
    for file in files:
        if file.rpartition("/")[2].startswith(_DEBRIS):
            continue
        match = _IMAGE.fullmatch(file)
        if match is None:
            raise XrayError(
                f"{file} in {source} is not in MURA's layout"
                " <train|valid>/XR_<PART>/patient<number>/study<number>_<positive|negative>/<image>.png; move it away."
            )
        rows.append(
            {
                "relative": match["relative"],
                "patient": match["patient"],
                "study": f"{match['part']}/{match['patient']}/{match['study']}",
                "label_index": label_index(match["label"], file),
            }
        )
    if not rows:
        raise XrayError(f"{source} has no image of MURA; see datasets/mura/README.md for the layout.")
    return pd.DataFrame(rows)
