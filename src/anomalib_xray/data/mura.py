"""MURA, the musculoskeletal radiographs of Stanford's machine learning group: its folders, CSV files and splits."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from anomalib_xray.data.datamodule import RadiographDataModule
from anomalib_xray.data.stock_command import advice_without_data
from anomalib_xray.data.table import label_index, samples_table, split_by_recipe
from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import list_radiographs
from anomalib_xray.io.tables import read_table

logger = logging.getLogger(__name__)

BODY_PARTS = ("XR_ELBOW", "XR_FINGER", "XR_FOREARM", "XR_HAND", "XR_HUMERUS", "XR_SHOULDER", "XR_WRIST")

_IMAGE = re.compile(
    r"(?P<relative>(?P<official>train|valid)/(?P<part>XR_[A-Z]+)/(?P<patient>patient\d+)"
    r"/(?P<study>study\d+_(?P<label>positive|negative))/(?P<file>[^/]+))"
)


class Mura(RadiographDataModule):
    """MURA v1.1 with the split of arXiv 2001.10883, by patient, made from MURA's train part.

    MURA's patient numbers are the same over body parts and many patients were examined at several, so with several
    parts the recipe is applied once to all patients together. A patient is abnormal when a study of a chosen part is.

    Args:
        root: MURA's folder, which holds ``train`` and ``valid``.
        body_parts: One or several of HAND, hand, XR_HAND and so on; or ``all``.
        index: List the images from the ``folders`` or from MURA's own ``csv`` files.
        test_on: ``test`` tests on the recipe's test patients; ``holdout`` on MURA's official valid part, which the
            paper left unused.
        settings: Further settings of :class:`~anomalib_xray.data.datamodule.RadiographDataModule`.

    Raises:
        XrayError: A body part is unknown; or, at setup, MURA is missing or unusable.

    Example:
        >>> Mura(body_parts=["wrist", "hand"]).body_parts
        ['XR_HAND', 'XR_WRIST']
    """

    def __init__(
        self,
        root: str | Path = "datasets/MURA-v1.1",
        body_parts: str | list[str] = "XR_HAND",
        index: Literal["folders", "csv"] = "folders",
        test_on: Literal["test", "holdout"] = "test",
        **settings: Any,
    ) -> None:
        super().__init__(root=root, **settings)
        self.body_parts = body_part_folders(body_parts)
        self.index = index
        self.test_on = test_on

    @property
    def name(self) -> str:  # type: ignore[override]  # a property in anomalib too, an attribute in lightning
        """The body part, or the data folder's name when there are several."""
        return self.body_parts[0] if len(self.body_parts) == 1 else super().name

    def build_samples(self) -> pd.DataFrame:
        """Lists the chosen body parts and splits their patients."""
        if not (self.root / "train").is_dir():
            raise XrayError(f"MURA v1.1 is not at {self.root}: {advice_without_data('mura')}")
        samples = split_by_recipe(self._official("train"), self.split_seed)
        if self.test_on == "holdout":
            holdout = self._official("valid").assign(split="test")
            samples = pd.concat([samples[samples["split"] != "test"], holdout], ignore_index=True)
        return samples

    def mask_path(self, relative: str, label_index: int) -> str:
        """Absolute path of an image's anomaly mask; MURA has none."""
        del relative, label_index
        return ""

    def _official(self, official: str) -> pd.DataFrame:
        """The samples table, without splits, of one of MURA's own parts."""
        list_images = scan_folders if self.index == "folders" else read_index
        listed = [list_images(self.root, official, part).assign(body_part=part) for part in self.body_parts]
        images = pd.concat(listed, ignore_index=True)
        paths = [str(self.root / relative) for relative in images["relative"]]
        masks = map(self.mask_path, images["relative"], images["label_index"])
        return samples_table(images.assign(image_path=paths, mask_path=list(masks)))


def body_part_folders(body_parts: str | list[str]) -> list[str]:
    """MURA's folders of body parts, sorted, each once.

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

    The columns are ``relative`` (path below root), ``patient``, ``study`` (unique over patients and parts) and
    ``label_index``.

    Raises:
        XrayError: There are no images in MURA's layout.
    """
    folder = root / official / part
    found = list_radiographs(folder) if folder.is_dir() else []
    files = [path for path in found if _IMAGE.fullmatch(path.relative_to(root).as_posix())]
    if len(files) < len(found):
        first = min(set(found) - set(files)).relative_to(folder)
        logger.warning(
            "%s: passed over pictures that lie in no folder of a study: %d (first %s).",
            folder, len(found) - len(files), first,
        )  # fmt: skip
    return _image_table((path.relative_to(root).as_posix() for path in files), folder)


def read_index(root: Path, official: str, part: str) -> pd.DataFrame:
    """Lists a body part's images from MURA's CSV files, with or without a header, in columns as :func:`scan_folders`.

    Raises:
        XrayError: A file is missing or unreadable, there are no images of the part, or a study has no label or two.
    """
    paths = root / f"{official}_image_paths.csv"
    studies = root / f"{official}_labeled_studies.csv"
    selection = f"{official}/{part}/"
    lines: dict[str, int] = {}
    repeated = []
    for line, file, _ in _rows_below(selection, paths):
        if lines.setdefault(file, line) != line:
            repeated.append(line)
    if repeated:
        logger.warning(
            "%s: passed over rows that repeat another: %d (first line %d).", paths, len(repeated), repeated[0]
        )
    images = _image_table(lines, paths)
    label_of = _study_labels(selection, studies)
    folders = images["relative"].map(lambda relative: relative.rpartition("/")[0])
    unlabelled = folders[~folders.isin(label_of.keys())]
    if len(unlabelled) > 0:
        raise XrayError(f"{studies} has no label for {unlabelled.iloc[0]}, which {paths.name} lists; add it.")
    return images.assign(label_index=folders.map(label_of).astype(int))


def _study_labels(selection: str, studies: Path) -> dict[str, int]:
    """Labels of the studies below ``selection``."""
    label_of: dict[str, int] = {}
    lines: dict[str, int] = {}
    for line, folder, label in _rows_below(selection, studies):
        study = folder.strip("/")
        index = label_index(label, f"study {study} of {studies}")
        if label_of.setdefault(study, index) != index:
            raise XrayError(
                f"lines {lines[study]} and {line} of {studies} contradict each other about {study}; remove one of them."
            )
        lines.setdefault(study, line)
    return label_of


def _rows_below(selection: str, table: Path) -> Iterator[tuple[int, str, str]]:
    """Line, path and the cell behind it of the rows whose path leads below ``selection``.

    The path begins there, whatever the copy's root is called; headers and other columns do not matter.
    """
    columns = [str(number) for number in range(8)]  # some copies added an index before, and columns behind
    for row in read_table(table, columns):
        cells = [cell.replace("\\", "/") for cell in row.cells.values()]
        for path, behind in pairwise([*cells, ""]):
            if selection in path:
                yield row.line, path[path.index(selection) :], behind
                break


def _image_table(files: Iterable[str], source: Path) -> pd.DataFrame:
    rows = []
    for file in files:
        if file.rpartition("/")[2].startswith("._"):  # macOS leaves such files beside each file of some copies
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
