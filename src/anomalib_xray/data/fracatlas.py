"""FracAtlas, limbs of three hospitals in Bangladesh with outlined fractures."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from anomalib_xray.data.datamodule import RadiographDataModule
from anomalib_xray.data.fracatlas_published import BODY_PARTS, OTHER_LABEL, TABLE, VIEWS, index_published
from anomalib_xray.data.table import label_index, samples_table, split_by_recipe
from anomalib_xray.errors import XrayError
from anomalib_xray.io.tables import Row, check_columns, read_table

logger = logging.getLogger(__name__)


class FracAtlas(RadiographDataModule):
    """FracAtlas (Abedeen et al. 2023): 4,083 radiographs of limbs, 717 with a fracture, CC BY 4.0.

    Patients were not published. A **group** stands in for a patient: a block of 8 neighbouring file numbers, joined
    with others that hold nearly the same picture. The split, with the recipe of arXiv 2001.10883, and all intervals
    are by group; a patient whose pictures lie apart may still be in two splits.

    At first use the published files become ``table.csv`` and ``ground_truth`` in the same folder: a row per picture,
    with the reason why one is left out. These are truncated files; copies of another picture; pictures of which a copy
    has the other label; those called normal although a fracture is outlined (IMG0003298), or fractured although none
    is. A folder that holds such a table is read without the published files. Remove the table to make it anew.

    Args:
        root: The unpacked folder, with ``dataset.csv``, ``images`` and ``Annotations``; or one with a ``table.csv``.
        body_parts: One or several of hand (an arm from the elbow down), hip, leg, shoulder; or ``all``. A picture of
            several parts is taken if all of them are.
        views: One or several of frontal, lateral, oblique; all by default. A picture of several views is taken if all
            of them are.
        hardware: Take pictures with implants, which are fractured far more often than others.
        multiscan: Take pictures with several exposures on one plate, which are fractured more often than others.
        train_share: Share of the groups without a fracture that train; the published recipe's number if left out.
        settings: Further settings of :class:`~anomalib_xray.data.datamodule.RadiographDataModule`.

    Raises:
        XrayError: A body part or view is unknown; or, at setup, the data set is missing or unusable.

    Example:
        >>> FracAtlas(body_parts=["leg", "hand"], views="frontal").body_parts
        ['hand', 'leg']
    """

    unit: ClassVar[str] = "groups"

    def __init__(
        self,
        root: str | Path = "datasets/FracAtlas",
        body_parts: str | list[str] = "hand",
        views: str | list[str] = "all",
        hardware: bool = False,
        multiscan: bool = False,
        train_share: float | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(root=root, **settings)
        self.body_parts = _chosen(body_parts, BODY_PARTS, "body part")
        self.views = _chosen(views, VIEWS, "view")
        self.hardware = hardware
        self.multiscan = multiscan
        self.train_share = train_share

    def prepare_data(self) -> None:
        """Makes the table and the masks of the published files, where there is no table yet.

        Raises:
            XrayError: The data set is missing, or its files contradict each other.
        """
        if not (self.root / TABLE).is_file():
            index_published(self.root)

    def build_samples(self) -> pd.DataFrame:
        """Lists the chosen pictures and splits their groups."""
        return split_by_recipe(samples_table(self.list_images()), self.split_seed, self.train_share)

    def list_images(self) -> pd.DataFrame:
        """Lists the chosen pictures with what the data set says of them.

        Returns:
            Columns ``image_path`` (absolute), ``patient`` (the group), ``study``, ``label_index``, ``mask_path``
            (absolute, or empty), ``boxes`` (JSON: fractures as x0, y0, x1, y1 in pixels of the original), ``view`` and
            ``body_part`` (several joined by ``+``), ``hardware`` (``with`` or ``without``); empty where unknown.

        Raises:
            XrayError: The data set is missing or unusable, or no picture is chosen.
        """
        self.prepare_data()
        path = self.root / TABLE
        listed = read_table(path)
        check_columns(listed, path, ["image_path", "group"], "remove it to make it anew of the published files")
        _warn_of_left_out(listed, path)
        rows = [self._image(row, path) for row in listed if self._is_chosen(row.cells)]
        if not rows:
            raise XrayError(
                f"{path} lists no picture of {', '.join(self.body_parts)} in the views {', '.join(self.views)} that is"
                " not left out; choose other body_parts or views, or take hardware or multiscan."
            )
        return pd.DataFrame(rows)

    def _is_chosen(self, cells: Mapping[str, str]) -> bool:
        parts, views = (set(cells.get(name, "").split("+")) - {""} for name in ("body_part", "view"))
        return (
            not cells.get("left_out")
            and (parts or {"hand"}) <= set(self.body_parts)
            and views <= set(self.views)
            and (self.hardware or cells.get("hardware", "") in ("", "0"))
            and (self.multiscan or cells.get("multiscan", "") in ("", "0"))
        )

    def _image(self, row: Row, path: Path) -> dict[str, Any]:
        cells = row.cells
        return {
            "image_path": str(self.root / cells["image_path"]),
            "patient": cells["group"],
            "study": cells["image_path"],
            "label_index": label_index(cells.get("label", "normal"), f"line {row.line} of {path}"),
            "mask_path": str(self.root / cells["mask_path"]) if cells.get("mask_path") else "",
            "boxes": cells.get("boxes", "[]"),
            "view": cells.get("view", ""),
            "body_part": cells.get("body_part", ""),
            "hardware": {"0": "without", "1": "with"}.get(cells.get("hardware", ""), ""),
        }


def _chosen(given: str | Sequence[str], known: Collection[str], what: str) -> list[str]:
    names = [name.lower() for name in ([given] if isinstance(given, str) else given)]
    if names == ["all"]:
        return sorted(known)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise XrayError(
            f"FracAtlas has no {what} {', '.join(unknown) or 'in an empty list'}; choose of {', '.join(known)}, or all."
        )
    return sorted(set(names))


def _warn_of_left_out(listed: Sequence[Row], path: Path) -> None:
    """Counts the pictures that are left out, and names those with two labels."""
    left_out = {Path(row.cells["image_path"]).name: row.cells.get("left_out", "") for row in listed}
    reasons = {name: reason for name, reason in left_out.items() if reason}
    if not reasons:
        return
    doubtful = [name for name, reason in reasons.items() if OTHER_LABEL in reason or reason.startswith("called")]
    logger.warning(
        "%s: pictures that are left out, with their reasons in the column left_out: %d (first %s: %s)%s.",
        path, len(reasons), next(iter(reasons)), next(iter(reasons.values())).rstrip("."),
        f"; of doubtful label: {', '.join(doubtful)}" if doubtful else "",
    )  # fmt: skip
